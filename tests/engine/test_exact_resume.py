"""A run that was stopped anywhere and resumed equals, bit for bit, the run that was not."""

import itertools
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from a2mim.engine.runner import ToolRunner
from exact_run import EPOCH, FLAVOURS, SaveAt, Witness, config, differing, run, state
from toy_run import read_scalars, toy_config, write_images

# Four workers on a machine with fewer cores are part of the matrix.
pytestmark = pytest.mark.filterwarnings('ignore:This DataLoader will create')

LOOPS = ('epochs', 'iterations')
PLACES = {'end of an epoch': 2 * EPOCH, 'middle of an epoch': EPOCH + 3}
WORKERS = (0, 1, 4)
# Every two factors meet in all their values: workers and flavours as all pairs, the others so that
# each meets every worker, every flavour and each other.
MATRIX = [
    (LOOPS[(worker + flavour) % 2], [*PLACES][(worker + flavour // 2) % 2], workers, name)
    for worker, workers in enumerate(WORKERS)
    for flavour, name in enumerate(['plain', 'ema', 'bf16', 'accumulation'])
]

Undisturbed = Callable[[str, str], tuple[Path, dict, Witness]]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('exact')
    write_images(root / 'train', 6)
    write_images(root / 'val', 2)
    return root


@pytest.fixture(scope='module')
def undisturbed(data: Path) -> Undisturbed:
    """A run without workers that is never stopped, made once per loop and flavour."""
    runs = {}

    def build(loop: str, flavour: str) -> tuple[Path, dict, Witness]:
        if (loop, flavour) not in runs:
            work_dir = data / f'{loop} {flavour}'
            # At the middle, and at the last iteration of an epoch that is not yet finished.
            saves = SaveAt((EPOCH + 3, 2 * EPOCH))
            runner, witness = run(config(data, work_dir, loop, flavour), saves)
            runs[loop, flavour] = work_dir, state(runner), witness
        return runs[loop, flavour]

    return build


@pytest.mark.integration
@pytest.mark.parametrize('loop, place, workers, flavour', MATRIX)
def test_a_resumed_run_is_the_one_that_was_never_stopped(
    data, tmp_path, undisturbed, loop, place, workers, flavour
):
    at_end = place == 'end of an epoch' and loop == 'epochs'
    file = 'epoch_2.pth' if at_end else f'iter_{PLACES[place]}.pth'
    check_rest(data, tmp_path, undisturbed(loop, flavour), file, loop, workers, flavour)


def test_so_is_one_stopped_at_the_last_iteration_of_an_epoch(data, tmp_path, undisturbed):
    made = undisturbed('epochs', 'plain')
    check_rest(data, tmp_path, made, f'iter_{2 * EPOCH}.pth', 'epochs', 0, 'plain')


def test_so_is_one_with_the_average_of_mmengine(data, tmp_path, undisturbed):
    made = undisturbed('epochs', 'mmengine ema')
    check_rest(data, tmp_path, made, f'iter_{EPOCH + 3}.pth', 'epochs', 0, 'mmengine ema')


def test_so_is_one_of_mae(data, tmp_path, undisturbed):
    made = undisturbed('epochs', 'mae')
    check_rest(data, tmp_path, made, f'iter_{EPOCH + 3}.pth', 'epochs', 0, 'mae')


def check_rest(
    data: Path,
    tmp_path: Path,
    made: tuple[Path, dict, Witness],
    file: str,
    loop: str,
    workers: int,
    flavour: str,
) -> None:
    """Resume from ``file`` and compare all that came after it."""
    work_dir, final, witness = made
    changes = dict(load_from=str(work_dir / file), resume=True)
    if workers:
        changes |= {
            'train_dataloader__num_workers': workers,
            'train_dataloader__persistent_workers': workers == 4,
        }
    runner, again = run(config(data, tmp_path / 'resumed', loop, flavour, **changes))
    assert multiprocessing.active_children() == []  # no worker is left
    stopped = torch.load(work_dir / file, weights_only=False)['meta']['iter']
    expected = {step: seen for step, seen in witness.steps.items() if step >= stopped}
    assert len(expected) == 3 * EPOCH - stopped
    assert differing(expected, again.steps) == []
    assert differing(final, state(runner)) == []
    validated = [entry for entry in witness.validated if entry[0] >= stopped]
    assert differing(validated, again.validated) == []
    rest = lines(tmp_path / 'resumed')
    assert rest == lines(work_dir)[-len(rest) :]


def lines(work_dir: Path) -> list[dict]:
    """What the run logged, without what a clock measured."""
    clocks = ('time', 'data_time', 'images_per_s', 'data_wait', 'memory')
    return [
        {name: value for name, value in line.items() if name not in clocks}
        for line in read_scalars(work_dir)
    ]


def test_every_two_factors_meet_in_the_matrix():
    for first, second in itertools.combinations(range(4), 2):
        names = [dict.fromkeys(row[factor] for row in MATRIX) for factor in (first, second)]
        met = {(row[first], row[second]) for row in MATRIX}
        assert met == set(itertools.product(*names))
    assert {row[3] for row in MATRIX} == FLAVOURS.keys() - {'mmengine ema', 'mae'}


def test_what_is_compared_changes_from_step_to_step(undisturbed):
    _, final, witness = undisturbed('epochs', 'plain')
    for before, after in itertools.pairwise(witness.steps.values()):
        changed = differing(before, after)
        assert {'.batch image', '.batch erase', '.input image', '.loss'} <= {*changed}
    assert differing(final, {**final, 'weights': {}}) != []


def test_two_runs_with_other_seeds_differ(data, tmp_path, undisturbed):
    _, final, _ = undisturbed('epochs', 'plain')
    runner, _ = run(config(data, tmp_path / 'other', 'epochs', 'plain', randomness__seed=1))
    assert differing(final['weights'], state(runner)['weights']) != []


@pytest.mark.integration
@pytest.mark.parametrize('persistent', [False, True])
def test_a_run_and_an_evaluation_leave_no_worker(persistent, data, tmp_path):
    cfg = toy_config(data, work_dir=str(tmp_path / 'run'))
    # It ends within the second epoch.
    cfg.train_cfg = dict(by_epoch=False, max_iters=4, val_interval=2)
    cfg.test_dataloader, cfg.test_evaluator, cfg.test_cfg = (
        cfg.val_dataloader.copy(),
        cfg.val_evaluator,
        dict(),
    )
    for part in ('train', 'val', 'test'):
        cfg[f'{part}_dataloader'].update(num_workers=2, persistent_workers=persistent)
    runner = ToolRunner.from_cfg(cfg)
    for call in (runner.train, runner.test):
        call()
        assert multiprocessing.active_children() == []
