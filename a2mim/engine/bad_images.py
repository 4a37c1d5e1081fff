"""Images that cannot be read: told once, counted, listed, and too many of them end the run."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.errors import BadDataError
from a2mim.registry import HOOKS

# [bad_files]
# ``bad_files.txt``: the names of images that cannot be read, one a line.
#
# A line has the bytes of a name as they are, UTF-8 or not: ``xargs -d '\n' -a bad_files.txt ls
# -ld`` finds every file. Only a line break inside a name is written as a backslash and the letter
# n.


FILE_NAME = 'bad_files.txt'


def write_names(path: Path, names: Iterable[str]) -> None:
    """Replace ``path`` by the sorted list of ``names``, without a moment in which it is partial."""
    lines = sorted({os.fsencode(name).replace(b'\n', b'\\n') + b'\n' for name in names})
    partial = path.with_name(f'{path.name}.partial')
    partial.write_bytes(b''.join(lines))
    os.replace(partial, path)


INTERVAL = 50  # iterations after which several processes tell each other what they met
MAX_WARNINGS = 100  # after that only the list grows
DEVIATIONS = 3  # standard deviations of chance that are granted before all images have been seen


class Source(Protocol):
    """The part of an image source that is needed here."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> object:
        """An image, or BadDataError."""

    def name(self, index: int) -> str:
        """What a person calls the image."""


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Take note of the images that the data set had to replace by others.

    Each is named once in the log, with the reason. ``bad_files.txt`` in the work dir lists them,
    and the progress line has their number. All of it is carried on by a checkpoint, and none of it
    depends on the number of workers. A resumed run forgets those that were repaired or removed.

    The run stops when more than ``max_share`` of the images seen so far are bad. Before every image
    has been seen, chance is allowed for: three standard deviations of what such a share would give.

    Args:
        max_share: Largest accepted share of bad images.

    Raises:
        ValueError: If ``max_share`` is outside [0, 1).
    """

    def __init__(self, max_share: float = 0.1) -> None:
        if not 0 <= max_share < 1:
            raise ValueError(f'max_share={max_share} must be in [0, 1); 0.1 is a tenth')
        self.max_share = max_share

    def before_train(self, runner: Runner) -> None:
        """Start with nothing, or with what the checkpoint knows and is still so."""
        self._source: Source | None = getattr(runner.train_dataloader.dataset, 'source', None)
        self._file = Path(runner.work_dir) / FILE_NAME
        self._met, self._num_met = set(), 0  # by this process, since the last exchange
        state = runner.message_hub.get_info('bad_images', dict(seen=0, found={}))
        self._seen = state['seen']
        still = [find_bad(self._source, state['found']) if is_main_process() else None]
        broadcast_object_list(still)
        self._found: dict[int, str] = still[0]  # names by index
        self._list()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at the batch as the workers made it, on the host: the device is not asked."""
        entry = data_batch.get('unreadable') if isinstance(data_batch, dict) else None
        if entry is None:
            return
        indices = np.asarray(entry)  # a tensor, or a list where samples are not stacked
        self._met.update(indices[indices >= 0].tolist())
        self._num_met += len(indices)
        due = get_world_size() == 1 or self.every_n_train_iters(runner, INTERVAL)
        if due or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._exchange(runner)

    def after_train(self, runner: Runner) -> None:
        """Leave nothing behind, wherever a run that counts iterations ends."""
        self._exchange(runner)

    def _exchange(self, runner: Runner) -> None:
        parts = all_gather_object((self._met, self._num_met))
        new = sorted(set().union(*(met for met, _ in parts)) - self._found.keys())
        self._seen += sum(number for _, number in parts)
        self._met, self._num_met = set(), 0
        if self._seen == 0:
            return  # the data set replaces nothing
        if new:
            self._warn(runner, new)
            self._found |= {index: self._source.name(index) for index in new}
            self._list()
        state = dict(seen=self._seen, found=dict(self._found))
        runner.message_hub.update_info('bad_images', state)
        self._check()

    def _warn(self, runner: Runner, new: Sequence[int]) -> None:
        """Say why; the reason has stayed in the worker, so the main process reads once more."""
        if not is_main_process():
            return
        for index in new[: max(0, MAX_WARNINGS - len(self._found))]:
            why = why_bad(self._source, index) or (
                f'{self._source.name(index)!r} could not be read a moment ago, but can be now'
            )
            runner.logger.warning(f'{why}. Another image takes its place.')
        if len(self._found) < MAX_WARNINGS <= len(self._found) + len(new):
            runner.logger.warning(f'further images that cannot be read are only in {self._file}')

    def _list(self) -> None:
        """Bring the file up to date; that of an earlier run in the folder goes."""
        if not is_main_process():
            return
        if self._found:
            write_names(self._file, self._found.values())
        else:
            self._file.unlink(missing_ok=True)

    def _check(self) -> None:
        size = len(self._source)
        seen = min(self._seen, size)
        allowed = self.max_share * seen
        if seen < size:
            allowed += DEVIATIONS * math.sqrt(allowed * (1 - self.max_share))
        if len(self._found) > allowed:
            example = min(self._found.values())
            raise BadDataError(
                f'{len(self._found)} of the first {seen} images cannot be read, such as '
                f'{example!r}: more than the accepted share of {self.max_share:.1%}. They '
                f'are listed in {self._file}; repair or remove them, or accept more in '
                "the config: default_hooks=dict(bad_images=dict(type='BadImagesHook', max_share=…))"
            )


def why_bad(source: Source, index: int) -> str | None:
    """The error that reading an image gives, None if it can be read."""
    try:
        source.load(index)
    except BadDataError as error:
        return str(error)
    return None


def find_bad(source: Source | None, found: Mapping[int, str]) -> dict[int, str]:
    """Those of ``found`` that are still called so and still cannot be read."""
    return {
        index: name
        for index, name in found.items()
        if index < len(source) and source.name(index) == name and why_bad(source, index)
    }
