"""The driver of a study: each run once, killed or not, and failures that enter no mean."""

import json
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from a2mim.study.budget import fit_budget
from a2mim.study.driver import run_study
from a2mim.study.evaluation import read_cells
from a2mim.study.matrix import find_study, read_study
from a2mim.study.results import check_folder, read_results
from tiny_study import tiny_study
from toy_run import ROOT, load_tool

pytestmark = pytest.mark.integration
MEASURED = ('steps', 'train_loss', 'accuracy', 'linear', 'knn', 'rate', 'config')


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes of the driver: more add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measured(folder: Path) -> dict[str, dict]:
    """What two studies of equal runs have in common."""
    records = read_results(folder / 'results.jsonl')
    return {n: {k: r[k] for k in MEASURED if k in r} for n, r in records.items()}


def driver(study: Path, out: Path, *options: str) -> subprocess.Popen:
    tool = [sys.executable, ROOT / 'tools/study/run.py', study, '--out', out, *options]
    return subprocess.Popen(tool, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def test_a_killed_driver_resumes_to_equal_numbers_and_repeats_no_run(tmp_path):
    # Long enough to be killed in the middle of it, also on a busy machine.
    longer = dict(pretrain={'train_cfg.max_epochs': 8})
    study = tiny_study(tmp_path / 'study', options=longer)
    run_study(study, tmp_path / 'whole')
    whole = (tmp_path / 'whole/results.jsonl').read_text()
    assert len(whole.splitlines()) == len(study.jobs()) == 8
    assert not list((tmp_path / 'whole/runs').iterdir())
    for record in read_results(tmp_path / 'whole/results.jsonl').values():
        # 500 test digits; a probe learns from 20, and chance is 10 %.
        probes = [record[name] for name in ('linear', 'knn') if name in record]
        assert len(probes) == (2 if record['kind'] == 'final' else 0)
        assert all(15 < value < 100 for value in probes)

    killed = driver(tmp_path / 'study', tmp_path / 'killed')
    # Within the last pre-training, after its first checkpoint.
    checkpoint = tmp_path / 'killed/runs/pretrain.vit.a2mim.seed0/epoch_1.pth'
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = read_results(tmp_path / 'killed/results.jsonl')
    assert 'pretrain.vit.a2mim.seed0' not in before
    with (tmp_path / 'killed/results.jsonl').open('a') as file:
        file.write('{"run": "final.vit.scr')  # the line of another one that was killed
    lines = []
    run_study(study, tmp_path / 'killed', tell=lines.append)
    assert len(lines) == 8 - len(before)
    assert measured(tmp_path / 'killed') == measured(tmp_path / 'whole')

    run_study(study, tmp_path / 'whole', tell=lambda line: pytest.fail(f'twice: {line}'))
    assert (tmp_path / 'whole/results.jsonl').read_text() == whole


def test_two_processes_share_the_runs_and_a_signal_stops_both(tmp_path):
    study = tiny_study(tmp_path / 'study', seeds=[0, 1])
    command = driver(tmp_path / 'study', tmp_path / 'out', '--processes', '2')
    deadline = time.monotonic() + 300
    results = tmp_path / 'out/results.jsonl'
    while not results.exists() and command.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    command.terminate()
    _, said = command.communicate()
    assert command.returncode in (75, 128 + signal.SIGTERM), said
    assert driver(tmp_path / 'study', tmp_path / 'out', '--processes', '2').wait() == 0
    names = [json.loads(line)['run'] for line in results.read_text().splitlines()]
    assert sorted(names) == sorted(job.name for job in study.jobs())


def test_runs_that_diverge_are_recorded_as_failed_and_enter_no_mean(tmp_path):
    options = dict(pretrain={'optim_wrapper.optimizer.lr': 1e25})
    study = tiny_study(tmp_path / 'study', options=options, rates=[1e-3, 1e25])
    run_study(study, tmp_path / 'out')
    results = read_results(tmp_path / 'out/results.jsonl')
    assert len(results) == len(study.jobs()) == 8
    assert results['rate.vit.scratch.labels2.rate1e+25.seed9']['status'] == 'failed'
    assert results['final.vit.scratch.labels2.seed0']['rate'] == 1e-3
    assert results['pretrain.vit.a2mim.seed0']['status'] == 'failed'
    assert results['final.vit.a2mim.labels2.seed0']['status'] == 'failed'
    cells = read_cells(study, results)
    assert cells['vit', '2', 'a2mim'].accuracy == {}
    assert cells['vit', '2', 'a2mim'].failed == (0,)
    assert len(cells['vit', '2', 'scratch'].accuracy) == 1


def test_a_budget_shortens_all_trainings_alike_once_and_starts_nothing_late(tmp_path):
    study = tiny_study(tmp_path / 'study', rates=[1e-3])
    (tmp_path / 'out').mkdir()
    fitted = fit_budget(study, tmp_path / 'out', 1e6, None)
    assert fitted.epochs == {'pretrain': 2, '2': 6}
    (tmp_path / 'out/budget.json').unlink()
    fitted = fit_budget(study, tmp_path / 'out', 1e-3, None)
    assert fitted.epochs == {'pretrain': 1, '2': 1}
    assert fit_budget(study, tmp_path / 'out', 1e6, None).epochs == fitted.epochs
    assert not (tmp_path / 'out/timing').exists()
    (tmp_path / 'out/budget.json').rename(tmp_path / 'budget.json')
    check_folder(tmp_path / 'out', fitted)
    run_study(fitted, tmp_path / 'out', seconds=0.0)
    assert not (tmp_path / 'out/results.jsonl').exists()
    run_study(fitted, tmp_path / 'out')
    results = read_results(tmp_path / 'out/results.jsonl')
    assert [results[name]['steps'] for name in sorted(results)] == [1, 1, 20]
    with pytest.raises(ValueError, match='--budget 0'):
        fit_budget(study, tmp_path / 'out', 0, None)


def test_the_study_for_a_gpu_runs_on_a_cpu_within_its_budget(tmp_path):
    """With its own configs: a smaller network, and few images, all of them in memory."""
    rng = np.random.default_rng(0)
    for part, label in product(('train', 'val'), range(10)):
        folder = tmp_path / f'data/{part}/class{label}'
        folder.mkdir(parents=True)
        for index in range(12 if part == 'train' else 2):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f'{index}.png')
    gpu = read_study(find_study('cifar10_gpu'))
    configs = dict(gpu.networks['vit-6x192'])
    configs |= {part: str(gpu.folder / configs[part]) for part in ('pretrain', 'finetune')}
    smaller = {'model.backbone.depth': 1, 'model.backbone.mask_after': 'blocks.0'}
    batch = {'train_dataloader.batch_size': 40, 'auto_scale_lr.base_batch_size': 40}
    few = {'train_dataloader.dataset.source.labels_per_class': 2, 'train_cfg.max_epochs': 4}
    validation = {'val_dataloader.dataset.source.labels_per_class': 1}
    tiny_study(
        tmp_path / 'study',
        networks={'vit': configs},
        starts={'scratch': None, 'a2mim': smaller},
        labels={2: few},
        rates=[1e-3],
        options=dict(pretrain=batch, finetune={'model.backbone.depth': 1, **validation}),
    )
    out = tmp_path / 'out'
    words = [str(tmp_path / 'study'), '--out', str(out), '--data-root', str(tmp_path / 'data')]
    run = load_tool('run', 'tools/study').main
    run([*words, '--device', 'cpu', '--budget', '15'])
    run(words)  # what a busy machine has not begun within the budget, as long as the rest
    results = read_results(out / 'results.jsonl')
    assert [record['status'] for record in results.values()] == ['finished'] * 3
    assert {record.get('split') for record in results.values()} == {None, 'test'}
    epochs = json.loads((out / 'budget.json').read_text())['epochs']
    assert 1 <= epochs['pretrain'] <= 40 and 1 <= epochs['2'] <= 4
    assert results['pretrain.vit.a2mim.seed0']['steps'] == 3 * epochs['pretrain']
