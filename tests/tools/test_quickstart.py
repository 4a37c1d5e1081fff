"""The quick start: its table, what it says of differences, and a whole one in small."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from a2mim.quickstart import command, runs
from a2mim.quickstart.page import by_seed, read_results, tables
from a2mim.quickstart.table import markdown, mean_and_spread, paired, rows, sentence, sentences
from a2mim.weights.released import config_path
from toy_run import ROOT, load_tool

PUBLISHED = ROOT / 'configs/quickstart/results.json'
# The whole quick start with few steps a run.
SMALL = """
import sys
from a2mim.quickstart import main, runs

arguments = runs.arguments


def small(config, folder, seed, *more):
    args = arguments(config, folder, seed, *more)
    args.cfg_options.update({'train_cfg.max_epochs': 2, 'param_scheduler.warmup': 0})
    if 'finetune' in config:
        args.cfg_options['train_cfg.val_interval'] = 1
    elif 'photos' in config:
        args.cfg_options['train_dataloader.dataset.source.labels_per_class'] = 5
        args.cfg_options['train_cfg.max_epochs'] = 20
        args.cfg_options['default_hooks.checkpoint.interval'] = 10
    else:
        args.cfg_options['train_dataloader.dataset.source.labels_per_class'] = 30
    return args


runs.arguments = small
main(sys.argv[1:])
"""


def starts(scratch: list, simmim: list, a2mim: list, losses: tuple = (0.6, 0.6, 0.6)) -> dict:
    """Results of one network by start and seed."""
    return {
        start: {
            seed: dict(accuracy=accuracy, loss=loss, knn=50.0, linear=60.0)
            for seed, accuracy in enumerate(accuracies)
        }
        for start, accuracies, loss in zip(
            ('scratch', 'simmim', 'a2mim'), (scratch, simmim, a2mim), losses, strict=True
        )
    }


@pytest.mark.parametrize(
    ('values', 'form', 'text'),
    [
        ([61.25], '.1f', '61.2'),
        ([60.0, 62.0, 64.0], '.1f', '62.0 ± 2.0'),
        ([-1.0, 2.0], '+.1f', '+0.5 ± 2.1'),
        ([0.5, 0.6], '.2f', '0.55 ± 0.07'),
    ],
)
def test_mean_and_standard_deviation(values, form, text):
    assert mean_and_spread(values, form) == text


def test_differences_are_paired_by_seed_whatever_their_order_and_number():
    first = {2: dict(accuracy=70.0), 0: dict(accuracy=61.0), 7: dict(accuracy=1.0)}
    second = {0: dict(accuracy=60.0), 2: dict(accuracy=50.0)}
    assert paired(first, second) == [1.0, 20.0]


def test_a_row_has_the_paired_difference_and_its_n():
    # Seeds differ by 10 points, the pairs by 2 to 4 only.
    found = rows(starts([60, 70, 80], [60, 70, 80], [62, 73, 84]))
    assert [row[0] for row in found] == ['from scratch', 'SimMIM', 'A2MIM']
    assert found[0][1:3] == ['70.0 ± 10.0', '–']
    assert found[2][1:3] == ['73.0 ± 11.0', '+3.0 ± 1.0 (n = 3)']


@pytest.mark.parametrize(
    ('a2mim', 'losses', 'expected'),
    [
        ([63, 74, 85], (0.6, 0.6, 0.6), 'a gain of +4.0 ± 1.0 points (n = 3), more than'),
        ([57, 66, 75], (0.6, 0.6, 0.6), 'a loss of -4.0 ± 1.0 points (n = 3), more than'),
        ([61, 75, 75], (0.6, 0.6, 0.6), '+0.3 ± 5.0 points (n = 3), within noise'),
        # Equal to its spread: not more.
        ([60, 71, 82], (0.6, 0.6, 0.6), '+1.0 ± 1.0 points (n = 3), within noise'),
        ([63, 74, 85], (0.8, 0.6, 0.6), 'it has not converged, and this is no gain'),
        # A baseline that is better in spite of it is better.
        ([57, 66, 75], (0.8, 0.6, 0.6), 'a loss of -4.0'),
    ],
)
def test_a_sentence_says_what_the_differences_allow(a2mim, losses, expected):
    found = sentence('a2mim', starts([60, 70, 80], [60, 70, 80], a2mim, losses))
    assert found.startswith('A2MIM against from scratch: ')
    assert expected in found


def test_one_seed_claims_nothing():
    found = sentences(starts([60], [70], [80]))
    assert len(found) == 3
    assert all('says nothing about the spread' in line for line in found)
    assert 'A2MIM against SimMIM: +10.0 points' in found[2]


def test_the_table_of_the_readme_is_that_of_the_committed_results():
    results = json.loads(PUBLISHED.read_text(encoding='utf-8'))
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert markdown(by_seed(results)) in readme
    methods = results['look']['methods']
    filled, last = methods['mean fill'], list(methods.values())[-1]
    assert last['l1'] < filled['l1'] and last['ssim'] > filled['ssim']


def test_every_config_it_names_is_there_and_its_rates_are_of_the_grid():
    for network in runs.NETWORKS:
        assert set(network.rates.values()) <= set(command.GRID)
        for kind in ('a2mim', 'simmim', 'finetune'):
            assert config_path(network.config(kind)).is_file()
    assert config_path(runs.LOOK).is_file()
    assert not set(command.CHOICE_SEEDS) & set(command.SEEDS)


@pytest.mark.parametrize('seeds', [['-1'], ['3', '3']])
def test_seeds_that_are_no_or_equal_numbers_are_refused(seeds, tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        command.main(['--work-dir', str(tmp_path), '--seeds', *seeds])
    assert capsys.readouterr().err == (
        f'error: --seeds {seeds[0]}: give different whole numbers from 0 on\n'
    )


def succeed(file: Path) -> None:
    file.write_text(str(torch.get_num_threads()))


def fail() -> None:
    raise SystemExit(3)


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_a_job_that_fails_ends_the_command_with_its_code(tmp_path, capfd):
    jobs = [('fine', lambda: succeed(tmp_path / 'done')), ('bad, seed 1', fail)]
    with pytest.raises(SystemExit, match='3'):
        command.work(jobs, tmp_path / 'logs')
    assert (tmp_path / 'done').read_text() == '1'
    assert 'bad, seed 1 failed' in capfd.readouterr().err


def start_small(folder: Path) -> subprocess.Popen:
    (folder.parent / 'small.py').write_text(SMALL)
    words = [folder.parent / 'small.py', '--work-dir', folder, '--seeds', '0', '1']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen([sys.executable, *words], env=environment, **streams)


@pytest.mark.integration
def test_a_whole_one_in_small_is_stopped_and_resumes_and_writes_its_page(tmp_path):
    folder = tmp_path / 'run'
    process = start_small(folder)
    log = folder / 'logs/look.log'
    deadline = time.monotonic() + 300
    while not (log.is_file() and 'Epoch(train)' in log.read_text()):
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
    assert 'resuming from' in log.read_text()
    results = json.loads((folder / 'results.json').read_text())
    assert results['prove'] == read_results(folder, [0, 1])['prove']
    assert tables(results) in (folder / 'quickstart.md').read_text()
    assert tables(results) in output
    for name in ('pictures/reconstructions.png', 'pictures/spectra.png', 'take/backbone.pth'):
        assert (folder / name).stat().st_size > 1000
    assert output.count(' features, ') == 5
    again, _ = start_small(folder).communicate(timeout=300)
    assert 'pre-trained in' not in again and tables(results).splitlines()[0] in again


def test_a_seed_without_all_starts_is_left_out(tmp_path):
    for seed in (0, 1, 2):
        for start in ('scratch', 'simmim', 'a2mim'):
            place = tmp_path / f'seed{seed}/vit64x4/finetune_{start}'
            place.mkdir(parents=True)
            found = dict(accuracy=float(seed), loss=0.5, linear=1.0, cpu_seconds=2.0)
            if (seed, start) != (1, 'a2mim'):
                found['knn'] = 1.0
            if (seed, start) != (2, 'scratch'):
                runs.note(place, found)
    found = read_results(tmp_path, [0, 1, 2])
    assert {name: list(of['scratch']) for name, of in found['prove'].items()} == {'ViT': ['0']}
    assert found['cpu_seconds'] == 16.0


def test_the_results_of_a_run_are_put_into_the_readme(tmp_path):
    load = load_tool('development/publish_quickstart')
    results = json.loads(PUBLISHED.read_text(encoding='utf-8'))
    folder, root = tmp_path / 'run', tmp_path / 'root'
    for path in (folder / 'pictures', root / 'configs/quickstart', root / 'docs/images'):
        path.mkdir(parents=True)
    (folder / 'results.json').write_text(json.dumps(results))
    for name in load.PICTURES:
        (folder / f'pictures/{name}.png').write_bytes(b'png')
    (root / 'README.md').write_text('before\n<!-- quick start -->\nold\n<!-- end -->\nafter\n')
    load.main([str(folder)], root)
    expected = f'before\n<!-- quick start -->\n{tables(results)}<!-- end -->\nafter\n'
    assert (root / 'README.md').read_text(encoding='utf-8') == expected
    assert (root / 'docs/images/quickstart_spectra.png').read_bytes() == b'png'
