"""The quick start: its table, what it says of differences, and a whole one in small."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from a2mim.quickstart import SEEDS, command, main
from a2mim.quickstart.look import CONFIG
from a2mim.quickstart.page import STUDY, read_all, tables
from a2mim.study import read_study
from a2mim.study.driver import chosen_rate
from a2mim.study.results import read_results
from a2mim.weights.released import config_path
from tiny_study import tiny_study
from toy_run import ROOT, load_tool

PUBLISHED = ROOT / 'configs/quickstart/results.json'
PAGE = 'docs/first_run.md'
# The whole quick start with few steps a run.
SMALL = """
import sys
from pathlib import Path
from a2mim.quickstart import command, look, main, page

command.STUDY = page.STUDY = Path(sys.argv[1])
start = look.start


def small(words, folder):
    options = {'train_cfg.max_epochs': 20, 'param_scheduler.warmup': 0}
    options |= {'train_dataloader.dataset.source.labels_per_class': 5}
    options |= {'default_hooks.checkpoint.interval': 10}
    pairs = [f'{key}={value}' for key, value in options.items()]
    return start([*words, '--cfg-options', *pairs], folder)


look.start = small
main(sys.argv[2:])
"""


def test_the_tables_of_the_page_are_that_of_the_committed_results():
    results = json.loads(PUBLISHED.read_text(encoding='utf-8'))
    assert tables(results) in (ROOT / PAGE).read_text(encoding='utf-8')
    methods = results['look']['methods']
    filled, last = methods['mean fill'], list(methods.values())[-1]
    assert last['l1'] < filled['l1'] and last['ssim'] > filled['ssim']


def test_its_rates_are_the_best_on_validation_of_the_committed_runs_with_other_seeds():
    study, found = read_study(STUDY), read_results(STUDY / 'rates.jsonl')
    assert not set(study.rate_seeds) & set(SEEDS)
    assert {r.get('split') for r in found.values()} == {None, 'val'}
    choosing = replace(study, chosen={})
    assert {job.name for job in choosing.choosing()} == found.keys()
    for cell in study.cells([0]):
        assert chosen_rate(study, cell, {}) == chosen_rate(choosing, cell, found)
        for job in choosing.rate_jobs(cell):
            assert found[job.name]['config'] == study.config_hash(job)
    assert config_path(CONFIG).is_file()


@pytest.mark.parametrize('seeds', [['-1'], ['3', '3']])
def test_seeds_that_are_no_or_equal_numbers_are_refused(seeds, tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['--work-dir', str(tmp_path), '--seeds', *seeds])
    error = capsys.readouterr().err
    assert f'error: --seeds {seeds[0]}: give different whole numbers from 0 on' in error
    assert error.count('\n') == 1


def succeed(file: Path, tell: object) -> None:
    file.write_text(str(torch.get_num_threads()))


def fail(tell: object) -> None:
    raise SystemExit(3)


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_a_job_that_fails_ends_the_command_with_its_code(tmp_path, capfd):
    jobs = [('fine', partial(succeed, tmp_path / 'done')), ('bad 1', fail)]
    with pytest.raises(SystemExit, match='3'):
        command.work(jobs, tmp_path / 'logs')
    assert (tmp_path / 'done').read_text() == '1'
    assert 'bad 1 failed' in capfd.readouterr().err


def start_small(folder: Path) -> subprocess.Popen:
    (folder.parent / 'small.py').write_text(SMALL)
    if not (folder.parent / 'study').exists():
        starts = {'scratch': None, 'simmim': {'model.head.spectral': None}, 'a2mim': {}}
        tiny_study(folder.parent / 'study', starts=starts, rates=[1e-3])
    words = [folder.parent / 'small.py', folder.parent / 'study', '--work-dir', folder]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    command = [sys.executable, *words, '--seeds', '0', '1']
    return subprocess.Popen(command, env=environment, **streams)


@pytest.mark.integration
def test_a_whole_one_in_small_is_stopped_and_resumes_and_writes_its_page(tmp_path):
    folder = tmp_path / 'run'
    process = start_small(folder)
    says = folder / 'logs/look.log'
    deadline = time.monotonic() + 300
    while not any('Epoch(train)' in log.read_text() for log in folder.glob('look/*/*.log')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert 'the same command resumes' in output
    assert (folder / 'look/latest.pth').is_file()
    process = start_small(folder)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    assert 'resuming from' in says.read_text()
    results = json.loads((folder / 'results.json').read_text())
    study = read_study(tmp_path / 'study', [0, 1])
    assert results == read_all(folder, study)
    assert list(results['prove']) == [job.name for job in study.jobs()]
    assert (page := (folder / 'quickstart.md').read_text()) and output.count('| vit | 2 | ') == 3
    assert all(line in page for line in output.splitlines() if line.startswith('| vit'))
    assert 'vit, 2 labels per class, a2mim against simmim: ' in output
    for name in ('pictures/reconstructions.png', 'pictures/spectra.png', 'take/backbone.pth'):
        assert (folder / name).stat().st_size > 1000
    assert output.count(' features, ') == 5
    again, _ = start_small(folder).communicate(timeout=300)
    assert 'finished' not in again and again.count('| vit | 2 | ') == 3


def test_the_results_of_a_run_are_put_into_the_pages(tmp_path):
    load = load_tool('development/publish_quickstart')
    results = json.loads(PUBLISHED.read_text(encoding='utf-8'))
    folder, root = tmp_path / 'run', tmp_path / 'root'
    for path in (folder / 'pictures', root / 'configs/quickstart', root / 'docs/images'):
        path.mkdir(parents=True)
    (folder / 'results.json').write_text(json.dumps(results))
    for name in load.PICTURES:
        (folder / f'pictures/{name}.png').write_bytes(b'png')
    (root / PAGE).write_text('before\n<!-- quick start -->\nold\n<!-- end -->\nafter\n')
    load.main([str(folder)], root)
    expected = f'before\n<!-- quick start -->\n{tables(results)}<!-- end -->\nafter\n'
    assert (root / PAGE).read_text(encoding='utf-8') == expected
    assert (root / 'docs/images/quickstart_spectra.png').read_bytes() == b'png'
