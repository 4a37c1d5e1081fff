"""Attacks on the storage of a run: data that do not answer, disks that are full, folders that move.

A case is a name and a function of two folders, as in ``process_attacks.py``; it raises
``AttackFailedError`` (``expect``) if the run does not do what docs/reliability.md says.
"""

import errno
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from pathlib import Path

from forked_runs import (
    KINDS,
    PAUSED_AT,
    NotRunError,
    Run,
    check_resumed,
    check_stopped,
    expect,
    reference,
)
from kill_and_resume import COMPARED, HERE, differing
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.visualization import LocalVisBackend
from PIL import Image
from tensorboard.summary.writer.record_writer import RecordWriter

from a2mim.datasets import PhotoPatches, image_files
from a2mim.engine import bad_images
from a2mim.engine.checkpointing import newest_checkpoint
from a2mim.weights.safe_load import load_file

OUTAGE = 1.5  # seconds
SHORT = 'default_hooks.bad_images.patience=1'
USER_ERROR, NOT_WRITTEN = 2, 74
KINDS_OF_RUN = ('pre-training', 'fine-tuning')
# The runs of ``forked_runs`` on files, with every record that a run can write.
CONFIG = """
_base_ = {base!r}
train_dataloader = dict(dataset=dict(source=dict(
    _delete_=True, type='ImageFolder', root={train!r}, with_labels=True)))
custom_hooks = [
    dict(type='WarmupEMAHook', momentum=0.1, warmup_epochs=1),
    dict(type='LossCurveHook'),
]
visualizer = dict(type='Visualizer', vis_backends=[
    dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
"""
PICTURES = "custom_hooks += [dict(type='ReconstructionHook', interval=1)]\n"
VALIDATION = """
val_dataloader = dict(dataset=dict(source=dict(
    _delete_=True, type='ImageFolder', root={val!r}, with_labels=True)))
"""


@cache
def stored(kind: str, root: Path) -> str:
    """The kind of a run like ``kind`` that reads files below ``root``."""
    for part in ('train', 'val'):
        source = PhotoPatches(split='train', labels_per_class=2)
        for index in range(len(source)):
            path = root / 'images' / part / str(source.label(index)) / f'{index}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.load(index).permute(1, 2, 0).numpy()).save(path)
    places = dict(train=str(root / 'images/train'), val=str(root / 'images/val'))
    text = CONFIG.format(base=str(HERE / KINDS[kind]), **places)
    text += VALIDATION.format(**places) if kind == 'fine-tuning' else PICTURES
    file = root / f'stored {kind}.py'
    file.write_text(text)
    KINDS[f'stored {kind}'] = str(file)
    return f'stored {kind}'


@contextmanager
def away(folder: Path, empty: bool = False) -> Iterator[None]:
    """``folder`` has another name in the block; an unmounted disk leaves an empty one."""
    other = folder.with_name(f'{folder.name} away')
    folder.rename(other)
    if empty:
        folder.mkdir()
    try:
        yield
    finally:
        if empty:
            folder.rmdir()
        other.rename(folder)


@contextmanager
def flag(folder: Path) -> Iterator[None]:
    """Writers and readers that ``failing`` has replaced fail in the block."""
    (folder / 'fails').touch()
    try:
        yield
    finally:
        (folder / 'fails').unlink(missing_ok=True)


def failing(owner: object, name: str, error: BaseException, file: Path) -> None:
    """Let ``owner.name`` raise ``error`` while ``file`` exists."""
    whole = getattr(owner, name)

    def replacement(*args: object, **kwargs: object) -> object:
        if file.exists():
            raise error
        return whole(*args, **kwargs)

    setattr(owner, name, replacement)


def check_undisturbed(run: Run, root: Path, checkpoint: Path | None = None) -> None:
    """It ends with 0, without a bad image, in the state of a run that nothing disturbed."""
    code = run.finish()
    expect(code == 0, f'exit code {code}: {run.last_line()}')
    expect(not run.said('Traceback'), 'a traceback')
    final = reference(run.kind, root, run.ranks)
    last = load_file(checkpoint or run.folder / 'latest.pth')
    wrong = [name for part in COMPARED for name in differing(final[part], last[part], part)]
    expect(not wrong, f'{len(wrong)} entries differ, such as {wrong[:1]}')


def short_outage(root: Path, folder: Path, kind: str, workers: int, ranks: int, how: str) -> None:
    """The images cannot be read for a moment."""
    kind = stored(kind, root)
    reference(kind, root, ranks)
    place = 'val' if how == 'val' else PAUSED_AT
    images = root / 'images' / ('val' if how == 'val' else 'train')
    broken = OSError(errno.EIO if how == 'EIO' else errno.ESTALE, 'the server does not answer')
    before = partial(failing, image_files, 'read_file', broken, folder / 'fails')
    options = [f'val_dataloader.num_workers={workers}'] if how == 'val' else []
    run = Run(kind, folder, *options, workers=workers, ranks=ranks, pause=place, before=before)
    run.wait_for_pause()
    outage = flag(folder) if how in ('EIO', 'ESTALE') else away(images, empty=how == 'unmounted')
    with outage:
        run.go_on()
        time.sleep(OUTAGE)
    check_undisturbed(run, root)
    expect(not (folder / 'bad_files.txt').exists(), 'good images are listed as bad')


def long_outage(root: Path, folder: Path, kind: str, workers: int, ranks: int, part: str) -> None:
    """The images stay away: the run saves and leaves with 75, and resumes once they are back."""
    kind = stored(kind, root)
    reference(kind, root, ranks)
    place = 'val' if part == 'val' else PAUSED_AT
    run = Run(kind, folder, SHORT, workers=workers, ranks=ranks, pause=place)
    run.wait_for_pause()
    with away(root / 'images' / part):
        run.go_on()
        check_stopped(run)
    expect(run.said('storage of', 'does not answer', 'is saved'), f'it says: {run.last_line()}')
    check_resumed(run, root)


def many_bad_images(root: Path, folder: Path, workers: int, ranks: int) -> None:
    """More bad images than accepted: exit code 2, after the state is saved."""
    kind = stored('pre-training', root)
    images = root / 'images/train'
    kept = shutil.copytree(images, root / 'kept', dirs_exist_ok=True)
    run = Run(kind, folder, workers=workers, ranks=ranks, pause=PAUSED_AT)
    run.wait_for_pause()
    for path in sorted(images.glob('*/*.png'))[::2]:
        path.write_bytes(b'')
    run.go_on()
    code = run.finish()
    shutil.copytree(kept, images, dirs_exist_ok=True)
    expect(code == USER_ERROR, f'exit code {code}: {run.last_line()}')
    expect(run.said('more than the accepted share', 'is saved'), f'it says: {run.last_line()}')
    expect(newest_checkpoint(folder)[0], 'nothing is saved')


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
WRITERS: dict[str, tuple[object, str, BaseException]] = {
    'log': (logging.FileHandler, '_open', FULL),
    'scalars': (LocalVisBackend, '_dump', FULL),
    'TensorBoard': (RecordWriter, 'write', FULL),
    'picture': (Image.Image, 'save', FULL),
    'picture without memory': (Image.Image, 'save', MemoryError()),
    'loss curve': (FigureCanvasAgg, 'print_png', FULL),
    'loss curve without memory': (FigureCanvasAgg, 'print_png', MemoryError()),
    'list of bad files': (bad_images, 'write_names', FULL),
}


def full_writer(root: Path, folder: Path, writer: str) -> None:
    """One record cannot be written: the run completes, with all of its checkpoints."""
    kind = stored('pre-training', root)
    reference(kind, root, 1)
    owner, name, error = WRITERS[writer]
    before = partial(failing, owner, name, error, folder / 'fails')
    run = Run(kind, folder, pause=PAUSED_AT, before=before)
    run.wait_for_pause()
    with flag(folder):
        run.go_on()
        check_undisturbed(run, root)


def full_disk(root: Path, folder: Path, kind: str) -> None:
    """The disk of the whole work dir fills up, and has room again later."""
    kind = stored(kind, root)
    reference(kind, root, 1)
    options = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=3']
    with small_disk(folder / 'run', megabytes=60):
        run = Run(kind, folder / 'run', *options, pause=PAUSED_AT)
        run.wait_for_pause()
        filler = fill(folder / 'run')
        run.go_on()
        code = run.finish()
        expect(code == NOT_WRITTEN, f'exit code {code}: {run.last_line()}')
        expect(run.said('could not be written', 'bytes needed'), f'it says: {run.last_line()}')
        expect(not run.said('Traceback'), 'a traceback')
        newest, skipped = newest_checkpoint(folder / 'run')
        expect(newest is not None and not skipped, f'saved: {newest}; {skipped}')
        filler.unlink()
        check_undisturbed(Run(kind, folder / 'run', *options), root)


def full_before_start(root: Path, folder: Path) -> None:
    """There is no room before the first step: one sentence with the file and the bytes."""
    kind = stored('pre-training', root)
    with small_disk(folder / 'run', megabytes=1):
        filler = fill(folder / 'run')
        run = Run(kind, folder / 'run')
        code = run.finish()
        expect(code in (USER_ERROR, NOT_WRITTEN), f'exit code {code}: {run.last_line()}')
        expect(run.said(str(folder / 'run'), 'bytes needed'), f'it says: {run.last_line()}')
        expect(not run.said('Traceback'), 'a traceback')
        filler.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system in memory at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        raise NotRunError('a small file system takes the rights of root')
    try:
        yield
    finally:
        subprocess.run(['umount', str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all room of ``folder``."""
    filler = folder / 'filler'
    with filler.open('wb', buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return filler


def out_dir(root: Path, folder: Path, ranks: int) -> None:
    """Checkpoints go to another folder, which does not exist: found, refused and resumed there."""
    kind = stored('pre-training', root)
    reference(kind, root, ranks)
    option = f'default_hooks.checkpoint.out_dir={folder}/disk'
    run = Run(kind, folder / 'run', option, ranks=ranks, pause=PAUSED_AT)
    run.wait_for_pause()
    run.signal(signal.SIGUSR1)
    run.go_on()
    code = run.finish()
    expect(code == 75, f'exit code {code}: {run.last_line()}')
    other = Run(kind, folder / 'other/run', option, ranks=ranks)
    code = other.finish()
    expect(code == USER_ERROR, f'another run in the folder: exit code {code}')
    expect(other.said('belongs to the run in'), f'it says: {other.last_line()}')
    resumed = Run(kind, folder / 'run', option, ranks=ranks)
    check_undisturbed(resumed, root, folder / 'disk/run/latest.pth')
    expect(resumed.said('resuming from'), 'it starts from scratch')


def lost_work_dir(root: Path, folder: Path, kind: str, how: str) -> None:
    """The work dir is moved or deleted: what is due is saved, exit code 74."""
    kind = stored(kind, root)
    reference(kind, root, 1)
    work_dir = folder / 'run'
    run = Run(kind, work_dir, pause=PAUSED_AT)
    run.wait_for_pause()
    if how == 'deleted':
        shutil.rmtree(work_dir)
    else:
        work_dir.rename(folder / 'moved')
    code = run.finish()
    expect(code == NOT_WRITTEN, f'exit code {code}: {run.last_line()}')
    expect(run.said('was moved or deleted', 'saved to'), f'it says: {run.last_line()}')
    expect(not run.said('Traceback'), 'a traceback')
    if how == 'moved':
        (folder / 'moved').rename(work_dir)
    check_resumed(run, root)


def cases() -> list[tuple[str, Callable[[Path, Path], None]]]:
    """Name and function of each attack; a function gets the root folder and one of its own."""
    found: list[tuple[str, Callable[[Path, Path], None]]] = []
    for workers, ranks in product((0, 2), (1, 2)):
        size = dict(workers=workers, ranks=ranks)
        text = f'{workers} workers, {ranks} rank(s)'
        for how in ('renamed', 'unmounted', 'EIO', 'ESTALE'):
            name = f'pre-training: images {how} for {OUTAGE} s, {text}'
            found.append((name, partial(short_outage, kind='pre-training', how=how, **size)))
        name = f'fine-tuning: images of the validation away for {OUTAGE} s, {text}'
        found.append((name, partial(short_outage, kind='fine-tuning', how='val', **size)))
        for kind, part in (*product(KINDS_OF_RUN, ('train',)), ('fine-tuning', 'val')):
            name = f'{kind}: images of {part} gone for good, {text}'
            found.append((name, partial(long_outage, kind=kind, part=part, **size)))
        found.append((f'pre-training: many bad images, {text}', partial(many_bad_images, **size)))
    for writer in WRITERS:
        found.append(
            (f'pre-training: no room for the {writer}', partial(full_writer, writer=writer))
        )
    for kind, how in product(KINDS_OF_RUN, ('moved', 'deleted')):
        found.append((f'{kind}: work dir {how}', partial(lost_work_dir, kind=kind, how=how)))
    for ranks in (1, 2):
        found.append((f'pre-training: out_dir, {ranks} rank(s)', partial(out_dir, ranks=ranks)))
    for kind in KINDS_OF_RUN:
        found.append((f'{kind}: the disk fills up', partial(full_disk, kind=kind)))
    found.append(('pre-training: the disk is full before the start', full_before_start))
    return found
