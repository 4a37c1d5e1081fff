"""Unreadable images: log each once, count and list them, stop the run if there are too many."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.checkpointing import find_saver
from a2mim.engine.records import Record
from a2mim.errors import BadDataError, StorageError
from a2mim.registry import HOOKS
from a2mim.weights.files import write_atomically

FILE_NAME = 'bad_files.txt'
INTERVAL = 50  # iterations after which several processes tell each other what they met
MAX_WARNINGS = 100  # after that only the list grows
DEVIATIONS = 3  # standard deviations of chance that are granted before all images have been seen


class Source(Protocol):
    """The part of an image source that is needed here."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def load(self, index: int) -> object:
        """An image, or BadDataError."""
        ...

    def name(self, index: int) -> str:
        """Name of the image in messages."""
        ...


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Report the unreadable images that the data set has replaced by others.

    Each is named once in the log, with the reason. ``bad_files.txt`` in the work dir lists them,
    and the progress line shows their number. Checkpoints carry them on, independent of the number
    of workers; a resumed run drops those that were repaired or removed.

    The run stops when more than ``max_share`` of the images seen so far are unreadable. Until every
    image has been seen, three standard deviations of that share are tolerated in addition.

    A storage that does not answer makes no image unreadable: it is asked again for ``patience``
    seconds, in training and validation, and then the run stops.

    Args:
        max_share: Largest accepted share of unreadable images.
        patience: Seconds; None keeps those of the source of images.

    Raises:
        ValueError: If ``max_share`` is outside [0, 1) or ``patience`` is negative.
    """

    only_looks = True

    def __init__(self, max_share: float = 0.1, patience: float | None = None) -> None:
        if not 0 <= max_share < 1:
            raise ValueError(f'max_share={max_share} must be in [0, 1); 0.1 is a tenth')
        if patience is not None and not patience >= 0:
            raise ValueError(f'patience={patience} must be 0 seconds or more')
        self.max_share, self.patience = max_share, patience
        self._refusal: str | None = None
        self._record = Record(f'the list {FILE_NAME}')

    def before_train(self, runner: Runner) -> None:
        """Start with none, or with those of the checkpoint that are still unreadable."""
        self._source: Source | None = getattr(runner.train_dataloader.dataset, 'source', None)
        self._be_patient(runner)
        self._file = Path(runner.work_dir) / FILE_NAME
        self._met, self._num_met = set(), 0  # by this process, since the last exchange
        state = runner.message_hub.get_info('bad_images', dict(seen=0, found={}))
        self._seen = state['seen']
        still = [find_bad(self._source, state['found']) if is_main_process() else {}]
        broadcast_object_list(still)
        self._found = still[0]  # names by index
        self._list()

    def _be_patient(self, runner: Runner) -> None:
        loop = runner.val_loop
        for loader in [runner.train_dataloader] + ([loop.dataloader] if loop is not None else []):
            storage = getattr(getattr(loader.dataset, 'source', None), 'storage', None)
            if storage is not None and self.patience is not None:
                storage.patience = self.patience

    def before_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Save and stop if there are too many, now that the iteration that found them is complete.

        Raises:
            BadDataError: With their number and an example.
        """
        saver = find_saver(runner)
        if self._refusal is None or (saver is not None and not saver.can_save(runner)):
            return
        if saver is not None:
            self._refusal += f'. {saver.save_now(runner, done=runner.iter)} is saved'
        raise BadDataError(self._refusal)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Read the batch as the workers made it, on the host: no wait for the device."""
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
        """Report the rest, wherever a run that counts iterations ends."""
        self._exchange(runner)
        self.before_train_iter(runner)

    def _exchange(self, runner: Runner) -> None:
        parts = all_gather_object((self._met, self._num_met))
        new = sorted(set().union(*(met for met, _ in parts)) - self._found.keys())
        self._seen += sum(number for _, number in parts)
        self._met, self._num_met = set(), 0
        source = self._source
        if self._seen == 0 or source is None:
            return  # the data set replaces nothing
        if new:
            bad = self._confirmed(runner, source, new)
            self._found |= {index: source.name(index) for index in bad}
            self._list()
        state = dict(seen=self._seen, found=dict(self._found))
        runner.message_hub.update_info('bad_images', state)
        self._check(len(source))

    def _confirmed(self, runner: Runner, source: Source, new: Sequence[int]) -> list[int]:
        """Those of ``new`` that the first process cannot read either, with a warning for each.

        Their reasons have stayed in the workers; a file may have been away for a moment.
        """
        reasons = [[why_bad(source, index) for index in new] if is_main_process() else []]
        broadcast_object_list(reasons)
        bad = [index for index, why in zip(new, reasons[0], strict=True) if why]
        room = max(0, MAX_WARNINGS - len(self._found)) if is_main_process() else 0
        for index, why in [*zip(new, reasons[0], strict=True)][:room]:
            name = source.name(index)
            why = (
                why or f'{name!r} could not be read a moment ago, but can be now; it is not listed'
            )
            runner.logger.warning(f'{why}. Another image takes its place.')
        if room and len(self._found) + len(bad) >= MAX_WARNINGS:
            runner.logger.warning(f'further images that cannot be read are only in {self._file}')
        return bad

    def _list(self) -> None:
        """Update the file; remove that of an earlier run in the folder."""
        if not is_main_process() or self._record.off:
            return
        with self._record.attempt():
            if self._found:
                write_names(self._file, self._found.values())
            else:
                self._file.unlink(missing_ok=True)

    def _check(self, size: int) -> None:
        seen = min(self._seen, size)
        allowed = self.max_share * seen
        if seen < size:
            allowed += DEVIATIONS * math.sqrt(allowed * (1 - self.max_share))
        if len(self._found) > allowed:
            example = min(self._found.values())
            self._refusal = (
                f'{len(self._found)} of the first {seen} images cannot be read, such as '
                f'{example!r}: more than the accepted share of {self.max_share:.1%}. They '
                f'are listed in {self._file}; repair or remove them, or accept more in '
                "the config: default_hooks=dict(bad_images=dict(type='BadImagesHook', max_share=…))"
            )


def write_names(path: Path, names: Iterable[str]) -> None:
    r"""Write the sorted ``names``, one a line, in the bytes of the file system, UTF-8 or not.

    ``xargs -d '\n' -a bad_files.txt ls -ld`` finds every file; only a line break inside a name is
    written as a backslash and the letter n.
    """
    lines = sorted({os.fsencode(name).replace(b'\n', b'\\n') + b'\n' for name in names})
    write_atomically(path, lambda file: file.write(b''.join(lines)))


def why_bad(source: Source, index: int) -> str | None:
    """The error that reading an image gives, None if it can be read, or nothing can."""
    try:
        source.load(index)
    except BadDataError as error:
        return str(error)
    except StorageError:
        pass
    return None


def find_bad(source: Source | None, found: Mapping[int, str]) -> dict[int, str]:
    """Those of ``found`` that still have this name and still cannot be read."""
    return (
        {}
        if source is None
        else {
            index: name
            for index, name in found.items()
            if index < len(source) and source.name(index) == name and why_bad(source, index)
        }
    )
