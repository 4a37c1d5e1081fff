"""A run that was stopped anywhere and resumed equals, bit for bit, the run that was not."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from exact_run import EPOCH, FLAVOURS, Witness, config, differing, run, state
from toy_run import read_scalars, write_images

LOOPS = ('epochs', 'iterations')
PLACES = {'end of an epoch': 2 * EPOCH, 'middle of an epoch': EPOCH + 3}
WORKERS = (0, 1, 4)
# Every two factors meet in all their values: workers and flavours as all pairs, the others so that
# each meets every worker, every flavour and each other.
MATRIX = [
    (LOOPS[(worker + flavour) % 2], [*PLACES][(worker + flavour // 2) % 2], workers, name)
    for worker, workers in enumerate(WORKERS)
    for flavour, name in enumerate(['plain', 'ema', 'bf16', 'accumulation'])
] + [('epochs', 'middle of an epoch', 0, 'mmengine ema')]

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
            runner, witness = run(config(data, work_dir, loop, flavour))
            runs[loop, flavour] = work_dir, state(runner), witness
        return runs[loop, flavour]

    return build


@pytest.mark.parametrize('loop, place, workers, flavour', MATRIX)
def test_a_resumed_run_is_the_one_that_was_never_stopped(
    data, tmp_path, undisturbed, loop, place, workers, flavour
):
    work_dir, final, witness = undisturbed(loop, flavour)
    stopped = PLACES[place]
    changes = dict(load_from=str(work_dir / f'iter_{stopped}.pth'), resume=True)
    if workers:
        changes |= {
            'train_dataloader__num_workers': workers,
            'train_dataloader__persistent_workers': workers == 4,
        }
    runner, again = run(config(data, tmp_path / 'resumed', loop, flavour, **changes))
    expected = {step: seen for step, seen in witness.steps.items() if step >= stopped}
    assert len(expected) == 3 * EPOCH - stopped
    assert differing(expected, again.steps) == []
    assert differing(final, state(runner)) == []
    assert again.validated == [entry for entry in witness.validated if entry[0] >= stopped]
    assert lines(tmp_path / 'resumed') == lines(work_dir)[-len(lines(tmp_path / 'resumed')) :]


def lines(work_dir: Path) -> list[dict]:
    """What the run logged, without what a clock measured."""
    clocks = ('time', 'data_time', 'images_per_s', 'data_wait', 'memory')
    return [
        {name: value for name, value in line.items() if name not in clocks}
        for line in read_scalars(work_dir)
    ]


def test_every_two_factors_meet_in_the_matrix():
    for first, second in itertools.combinations(range(4), 2):
        names = [dict.fromkeys(row[factor] for row in MATRIX[:12]) for factor in (first, second)]
        met = {(row[first], row[second]) for row in MATRIX[:12]}
        assert met == set(itertools.product(*names))
    assert {row[3] for row in MATRIX} == FLAVOURS.keys()


def test_what_is_compared_changes_from_step_to_step(undisturbed):
    _, final, witness = undisturbed('epochs', 'plain')
    for before, after in itertools.pairwise(witness.steps.values()):
        changed = differing(before, after)
        assert {'.batch image', '.batch erase', '.input 0', '.loss'} <= {*changed}
    assert differing(final, {**final, 'weights': {}}) != []


def test_two_runs_with_other_seeds_differ(data, tmp_path, undisturbed):
    _, final, _ = undisturbed('epochs', 'plain')
    runner, _ = run(config(data, tmp_path / 'other', 'epochs', 'plain', randomness__seed=1))
    assert differing(final['weights'], state(runner)['weights']) != []
