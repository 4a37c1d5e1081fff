"""A longer ``max_epochs`` or ``max_iters`` extends a run; its schedules follow, or keep their end.

A run of 2 epochs of 5 batches becomes one of 3, with an average of the weights.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.resume import check_config
from exact_run import EPOCH, Witness, config, differing, run, state
from toy_run import write_images

pytestmark = pytest.mark.integration

SCHEDULES = {
    'none': [],
    'mmengine': [dict(type='CosineAnnealingLR', T_max=2, convert_to_iter_based=True)],
    'two of mmengine': [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3),
        dict(type='MultiStepLR', milestones=[1, 2], begin=0, end=2),
    ],
    'ours': [dict(type='WarmupCosineLR', warmup=1, eta_min=1e-5, convert_to_iter_based=True)],
}


class Rates(Hook):
    """Write down the learning rate of each step."""

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self.rates[runner.iter] = runner.optim_wrapper.param_groups[0]['lr']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('extended')
    write_images(root / 'train', 6)
    write_images(root / 'val', 2)
    return root


Build = Callable[..., Config]


@pytest.fixture
def build(data: Path, tmp_path: Path) -> Build:
    """A function from the epochs, the loop and the schedule to the config of a run."""

    def build(epochs: int, loop: str, schedule: str, **changes: object) -> Config:
        length = epochs if loop == 'epochs' else epochs * EPOCH
        name = 'train_cfg__max_epochs' if loop == 'epochs' else 'train_cfg__max_iters'
        schedules = [dict(entry) for entry in SCHEDULES[schedule]]
        # Where the length is stated, it is that of the shorter run unless the run is a new one.
        for entry in schedules if 'resume' not in changes else ():
            for span in entry.keys() & {'T_max', 'end'}:
                entry[span] = epochs if entry[span] == 2 else entry[span]
        options = {name: length, 'param_scheduler': schedules, **changes}
        return config(data, tmp_path / f'{loop} {epochs}', loop, 'ema', **options)

    return build


def extended(build: Build, loop: str, schedule: str, option: str) -> tuple[Runner, Witness, Rates]:
    """Train for 2 epochs, to the end, and resume for 3."""
    short = build(2, loop, schedule)
    run(short)
    file = Path(short.work_dir, 'epoch_2.pth' if loop == 'epochs' else f'iter_{2 * EPOCH}.pth')
    cfg = build(3, loop, schedule, resume=True, load_from=str(file))
    notes = check_config(cfg, str(file), option)
    assert 'the training is extended from ' in notes[0] and f'--schedule {option}' in notes[0]
    cfg.work_dir, rates = f'{cfg.work_dir} extended', Rates()
    return *run(cfg, rates), rates


@pytest.mark.parametrize('loop', ['epochs', 'iterations'])
def test_without_a_schedule_it_is_the_run_that_was_always_so_long(build, loop):
    runner, witness, _ = extended(build, loop, 'none', 'follow')
    whole, expected = run(build(3, loop, 'none'))
    assert differing(state(whole), state(runner)) == []
    later = {step: seen for step, seen in expected.steps.items() if step >= 2 * EPOCH}
    assert differing(later, witness.steps) == []


def test_an_automatic_length_is_stated_in_the_config_of_the_run_and_ends_its_schedules(
    build, monkeypatch
):
    monkeypatch.setattr('a2mim.length.LEAST_STEPS', 12)
    monkeypatch.setattr('a2mim.length.MOST_EPOCHS', 1)
    cfg = build(2, 'epochs', 'ours')
    cfg.train_cfg.max_epochs = 'auto'
    rates, expected = Rates(), Rates()
    runner, _ = run(cfg, rates)
    assert runner.max_epochs == 3  # of 5 steps: 12 at least
    assert Config.fromfile(next(Path(cfg.work_dir).glob('*.py'))).train_cfg.max_epochs == 3
    run(build(3, 'epochs', 'ours'), expected)
    assert rates.rates == expected.rates


@pytest.mark.parametrize('schedule', ['mmengine', 'two of mmengine', 'ours'])
def test_schedules_that_follow_have_the_rates_of_the_longer_run(build, schedule):
    runner, _, rates = extended(build, 'epochs', schedule, 'follow')
    expected = Rates()
    whole, _ = run(build(3, 'epochs', schedule), expected)
    later = {step: rate for step, rate in expected.rates.items() if step >= 2 * EPOCH}
    assert rates.rates == later
    assert differing(state(whole)['schedulers'], state(runner)['schedulers']) == []


@pytest.mark.parametrize('schedule', ['mmengine', 'two of mmengine', 'ours'])
def test_schedules_that_are_kept_leave_the_last_rate(build, schedule):
    _, _, rates = extended(build, 'epochs', schedule, 'keep')
    short = Rates()
    runner, _ = run(build(2, 'epochs', schedule), short)
    last = runner.optim_wrapper.param_groups[0]['lr']
    assert [*rates.rates] == [*range(2 * EPOCH, 3 * EPOCH)]
    assert {*rates.rates.values()} == {last}


def test_optimiser_and_average_go_on(build):
    runner, _, _ = extended(build, 'epochs', 'ours', 'keep')
    found = state(runner)
    assert {int(entry['step']) for entry in found['optimizer']['state'].values()} == {3 * EPOCH}
    assert int(found['averages'][0]['steps']) == 3 * EPOCH
