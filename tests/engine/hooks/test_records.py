"""Nothing but a checkpoint that cannot be written ends a run, and checkpoints come first."""

import errno
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.hooks import Hook
from mmengine.runner import Runner, get_priority
from PIL import Image

from a2mim.engine.checkpointing import CheckpointHook
from a2mim.engine.command_line import one_line_errors
from a2mim.engine.pictures import LossCurveHook, ReconstructionHook
from a2mim.engine.records import Record
from a2mim.errors import NOT_WRITTEN, NotWrittenError
from exact_run import config, run
from toy_run import write_images


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOSPC, 'No space left on device'),
        NotWrittenError('no rights'),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_record_is_switched_off_with_one_warning(error, caplog):
    record = Record('the curve')
    with caplog.at_level(logging.WARNING, 'mmengine'), record.attempt():
        raise error
    assert record.off


def test_a_fault_of_the_program_is_none_of_the_disk():
    record = Record('the curve')
    with pytest.raises(ValueError), record.attempt():
        raise ValueError('shapes differ')
    assert not record.off


def test_pictures_are_drawn_after_the_checkpoint():
    first, *later = (
        get_priority(hook.priority) for hook in (CheckpointHook, ReconstructionHook, LossCurveHook)
    )
    assert all(first < each for each in later)  # the lower comes first


@pytest.fixture
def images(tmp_path) -> Path:
    root = tmp_path / 'data'
    write_images(root / 'train', 6)
    (root / 'train/red/0.png').write_bytes(b'')
    return root


class Attack(Hook):
    """Do something to the work dir after some iterations."""

    def __init__(self, iteration: int, attack) -> None:
        self.iteration, self.attack = iteration, attack

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        if runner.iter + 1 == self.iteration:
            self.attack(Path(runner.work_dir))


def pretraining(images: Path, work_dir: Path):
    cfg = config(images, work_dir, 'epochs', 'bf16')
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.logger.interval = 1
    cfg.train_dataloader.dataset.on_bad_image = 'substitute'
    cfg.custom_hooks = [dict(type='ReconstructionHook', interval=1), dict(type='LossCurveHook')]
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    cfg.visualizer = dict(type='Visualizer', vis_backends=backends, name=str(work_dir))
    return cfg


def break_folders(work_dir: Path) -> None:
    """Take the folders of all records away, before the first bad image and picture."""
    for folder in work_dir.glob('*/vis_data'):
        shutil.rmtree(folder)
    shutil.rmtree(work_dir / 'reconstruction', ignore_errors=True)
    (work_dir / 'reconstruction').write_text('')
    (work_dir / 'loss.png').mkdir()
    (work_dir / 'bad_files.txt').unlink(missing_ok=True)
    (work_dir / 'bad_files.txt').mkdir()
    (work_dir / 'last_checkpoint').mkdir()


def break_memory(monkeypatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(FigureCanvasAgg, 'print_png', fail)
    monkeypatch.setattr(Image.Image, 'save', fail)


def fill_disk(monkeypatch) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, 'write', fail)
    monkeypatch.setattr(RecordWriter, 'flush', fail)
    monkeypatch.setattr(logging.FileHandler, 'emit', lambda self, line: self.handleError(line))


@pytest.mark.integration
@pytest.mark.parametrize('attack', [break_folders, break_memory, fill_disk])
def test_a_run_without_its_records_trains_and_saves_the_same(
    images, tmp_path, monkeypatch, capfd, attack
):
    plain, _ = run(pretraining(images, tmp_path / 'a'))
    capfd.readouterr()
    hit = Attack(1, attack if attack is break_folders else lambda _: attack(monkeypatch))
    attacked, _ = run(pretraining(images, tmp_path / 'b'), hit)
    output = capfd.readouterr()
    assert 'Traceback' not in output.err
    assert 'cannot be written and is switched off' in output.out + output.err
    states = [torch.load(tmp_path / name / 'latest.pth', weights_only=False) for name in 'ab']
    weights = [each['state_dict'] for each in states]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert (tmp_path / 'b/latest.pth').readlink() == Path('epoch_3.pth')
    assert plain.iter == attacked.iter


def move(work_dir: Path) -> Path:
    work_dir.rename(work_dir.with_name('moved'))
    return work_dir.with_name('moved')


def delete(work_dir: Path) -> Path:
    shutil.rmtree(work_dir)
    return work_dir


def replace(work_dir: Path) -> Path:
    shutil.rmtree(work_dir)
    work_dir.mkdir()
    return work_dir.with_name(f'b.{os.getpid()}')


def swap(work_dir: Path) -> Path:
    moved = move(work_dir)
    work_dir.mkdir()
    return moved


@pytest.mark.integration
@pytest.mark.parametrize('attack', [move, delete, replace, swap])
def test_a_work_dir_that_is_moved_or_deleted_ends_the_run_that_is_saved(
    images, tmp_path, capfd, attack
):
    found = []
    hit = Attack(2, lambda work_dir: found.append(attack(work_dir)))
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        run(pretraining(images, tmp_path / 'b'), hit)
    assert exit_.value.code == NOT_WRITTEN
    saved = found[0] / 'epoch_1.pth'
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert f'{tmp_path}/b was moved or deleted during the run' in error
    assert f'its state is saved to {saved}' in error
    assert torch.load(saved, weights_only=False)['meta']['iter'] == 5
    assert (found[0] / 'latest.pth').readlink() == Path('epoch_1.pth')
    if attack in (replace, swap):
        assert [*(tmp_path / 'b').glob('*.pth')] == []
