"""Every code block of the page about A2MIM as a component runs, and trains the network."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

PAGE = Path(__file__).parents[2] / 'docs' / 'components.md'
FIRST, *OTHERS = re.findall(r'^```python\n(.*?)^```$', PAGE.read_text('utf-8'), re.M | re.S)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / 'photos').mkdir()
    for i in range(8):
        pixels = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'photos' / f'{i}.jpg')
    monkeypatch.chdir(tmp_path)


def run(block: str, names: dict) -> None:
    exec(compile(block, PAGE.name, 'exec'), names)


@pytest.mark.usefixtures('photos')
@pytest.mark.parametrize('block', OTHERS, ids=[f'block {i + 2}' for i in range(len(OTHERS))])
# Of other libraries, about themselves.
@pytest.mark.filterwarnings('default')
def test_every_block_runs_after_the_first(block, monkeypatch):
    if 'import Trainer' in block:  # it takes the folder tests/datasets for the package of that name
        monkeypatch.setattr('transformers.trainer.is_datasets_available', lambda: False)
    names = {'__name__': 'page'}
    run(FIRST, names)
    before = copy.deepcopy(names['network'].state_dict())
    epochs, sampler = [], names['sampler']
    keys = sampler.keys
    sampler.keys = lambda epoch, start=0: epochs.append(epoch) or keys(epoch, start)
    run(block, names)
    if 'def ' in block or 'optimizer' in block:
        after = names['network'].state_dict()
        still = [key for key in after if torch.equal(after[key], before[key])]
        assert still == ['fc.weight', 'fc.bias']
        assert {*epochs} == {0, 1}


def test_no_block_is_overlooked():
    assert 1 + len(OTHERS) == PAGE.read_text(encoding='utf-8').count('```') / 2 == 5
