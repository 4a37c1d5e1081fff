"""The checkpoints of a run as files: which name means what, and which one goes when."""

import re
from functools import partial
from pathlib import Path

import torch

from a2mim.engine.checkpointing.newest import iteration_of, newest_checkpoint
from a2mim.engine.checkpointing.snapshot import num_bytes
from a2mim.weights.files import CheckedFile, replace_link, write_patiently

LATEST = 'latest.pth'
LAST = 'last_checkpoint'  # mmengine's: a text file with a path


class RunFiles:
    """Writes states, keeps the newest few, and lets ``latest.pth`` name the newest of all.

    Whatever is removed goes after its successor is complete. A file that cannot be read is never
    removed.

    Args:
        folder: Where the checkpoints are.
        work_dir: Where mmengine's ``last_checkpoint`` is.
        templates: Names of checkpoints, with ``{}`` for a number.
        keep: How many stay; less than 1 for all of them.
    """

    def __init__(self, folder: Path, work_dir: Path, templates: tuple[str, ...], keep: int) -> None:
        self.folder, self.work_dir, self.keep = folder, work_dir, keep
        names = '|'.join(re.escape(name).replace(r'\{\}', r'\d+') for name in templates)
        self.kept = find_files(folder, re.compile(names))
        self.last: Path | None = self.kept[-1] if self.kept else None

    def write(self, path: Path, state: dict) -> int:
        """Write the state of a run, mark it as the latest, and remove what has had its time.

        Returns:
            Size of the file in bytes.
        """
        size = self.write_only(path, state)
        self._mark(path)
        self.last = path
        self.kept = [*(old for old in self.kept if old != path), path]
        while self.keep > 0 and len(self.kept) > self.keep:
            self.kept.pop(0).unlink(missing_ok=True)
        return size

    def repair(self) -> None:
        """Let ``latest.pth`` and mmengine's file name the newest whole checkpoint.

        A run that was killed between a file and its link left the link on the file before; had it
        been the last one, no other would come to move it.
        """
        link = self.folder / LATEST
        if self.last is None or (link.is_symlink() and link.readlink() == Path(self.last.name)):
            return
        self.last, _ = newest_checkpoint(self.folder)
        if self.last is not None:
            self._mark(self.last)

    def _mark(self, path: Path) -> None:
        replace_link(self.folder / LATEST, path.name)
        name = str(path).encode()
        write_patiently(self.work_dir / LAST, partial(put, name), len(name), advice=self.advice())

    def write_only(self, path: Path, state: dict) -> int:
        """Write a file that is not for resuming; return its size in bytes."""
        write = partial(torch.save, state)
        return write_patiently(path, write, num_bytes(state), advice=self.advice())

    def advice(self) -> str:
        """What to do if a file cannot be written."""
        if self.last is None:
            return 'No checkpoint has been written yet; make room or give another --work-dir'
        return f'{self.last} is whole: make room, and go on from it with --resume auto'


def put(content: bytes, file: CheckedFile) -> None:
    """Write ``content`` to ``file``."""
    file.write(content)


def find_files(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """Checkpoints in ``folder`` that can be read, in the order of their iterations."""
    iterations = {}
    for path in folder.glob('*.pth'):
        if names.fullmatch(path.name) and not path.is_symlink():
            try:
                iterations[path] = iteration_of(path)
            except (ValueError, OSError):
                continue  # said by --resume auto already
    return sorted(iterations, key=iterations.get)
