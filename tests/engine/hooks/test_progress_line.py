import json
import re

import pytest


def test_it_tells_speed_wait_and_eta(work_dir):
    log = next(work_dir.rglob('*.log')).read_text()
    line = re.search(r'Epoch\(train\) +\[1\]\[3/3\].*', log)[0]
    assert re.search(r'eta: .* loss_spatial: .* images/s: [\d.e+]+ .*data wait: \d+%$', line)


def test_the_back_ends_get_speed_and_wait(work_dir):
    last = json.loads(next(work_dir.rglob('scalars.json')).read_text().splitlines()[-1])
    assert last['images_per_s'] == pytest.approx(2 / last['time'])
    assert last['data_wait'] == pytest.approx(last['data_time'] / last['time'])


def test_the_learning_rate_is_shown_once(work_dir):
    log = next(work_dir.rglob('*.log')).read_text()
    line = re.search(r'Epoch\(train\).*', log)[0]
    assert line.count('lr: ') == 1
