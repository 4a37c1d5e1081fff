"""A run whose images are away for a moment proceeds; one whose images stay away saves and ends."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.datasets import storage
from a2mim.engine.command_line import one_line_errors
from a2mim.errors import TRY_AGAIN, USER_ERROR
from exact_run import config, run, state
from toy_run import write_images

pytestmark = pytest.mark.integration


@pytest.fixture
def images(tmp_path) -> Path:
    root = tmp_path / 'data'
    write_images(root / 'train', 6)
    write_images(root / 'val', 2)
    return root


class Outage(Hook):
    """Take ``path`` away after some iterations, or before a validation."""

    def __init__(self, path: Path, iteration: int | None) -> None:
        self.path, self.iteration, self.done = path, iteration, False

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        if runner.iter + 1 == self.iteration:
            self.path.rename(self.path.with_name('away'))

    def before_val(self, runner: Runner) -> None:
        if self.iteration is None and not self.done:
            self.done = True
            self.path.rename(self.path.with_name('away'))


def come_back_at_the_first_wait(path: Path, monkeypatch) -> list[float]:
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if not path.exists():
            path.with_name('away').rename(path)

    monkeypatch.setattr(storage.time, 'sleep', sleep)
    return waits


@pytest.mark.parametrize(
    'flavour, part, iteration',
    [('ema', 'val', None), ('bf16', 'train', 7)],
    ids=['validation', 'pre-training'],
)
def test_a_moment_changes_nothing(images, tmp_path, monkeypatch, flavour, part, iteration):
    undisturbed, _ = run(config(images, tmp_path / 'a', 'epochs', flavour))
    outage = Outage(images / part, iteration)
    waits = come_back_at_the_first_wait(outage.path, monkeypatch)
    disturbed, _ = run(config(images, tmp_path / 'b', 'epochs', flavour), outage)
    assert waits
    assert not (tmp_path / 'b/bad_files.txt').exists()
    weights = [each.model.state_dict() for each in (undisturbed, disturbed)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    'loop, flavour, part, iteration, workers',
    [
        ('epochs', 'plain', 'train', 2, 2),
        ('iterations', 'bf16', 'train', 7, 0),
        ('epochs', 'ema', 'val', None, 0),
    ],
)
def test_a_run_without_images_saves_ends_with_75_and_resumes_bit_for_bit(
    images, tmp_path, capsys, loop, flavour, part, iteration, workers
):
    reference, _ = run(config(images, tmp_path / 'a', loop, flavour))
    cfg = config(images, tmp_path / 'b', loop, flavour)
    cfg.train_dataloader.num_workers = workers
    cfg.default_hooks.bad_images = dict(type='BadImagesHook', patience=0.2)
    cfg.default_hooks.checkpoint.interval = 100
    outage = Outage(images / part, iteration)
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        run(cfg, outage)
    assert exit_.value.code == TRY_AGAIN
    error = capsys.readouterr().err.strip().splitlines()[-1]
    files = sorted(path.name for path in (tmp_path / 'b').glob('iter_*.pth'))
    assert len(files) == 1
    assert f"storage of '{images / part}' does not answer" in error
    assert f'b/{files[0]} is saved; --resume auto' in error
    outage.path.with_name('away').rename(outage.path)
    cfg = config(images, tmp_path / 'b', loop, flavour)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'b/latest.pth')
    resumed, _ = run(cfg)
    before, after = state(reference), state(resumed)
    for part in ('weights', 'averages'):
        pairs = zip(
            torch.utils._pytree.tree_leaves(before[part]),
            torch.utils._pytree.tree_leaves(after[part]),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in pairs)


def test_too_many_bad_images_end_a_run_that_is_saved(images, tmp_path, capsys):
    for path in sorted((images / 'train').glob('*/*.png'))[::4]:
        path.write_bytes(b'')
    cfg = config(images, tmp_path / 'b', 'epochs', 'plain')
    cfg.train_dataloader.dataset.on_bad_image = 'substitute'
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        run(cfg)
    assert exit_.value.code == USER_ERROR
    error = capsys.readouterr().err.strip().splitlines()[-1]
    saved = sorted((tmp_path / 'b').glob('iter_*.pth'))
    assert len(saved) == 1
    assert error.endswith(f'{saved[0]} is saved')
