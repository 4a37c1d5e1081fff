"""When the state of a run becomes a file, and what training waits for."""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from a2mim.engine.checkpointing import (
    BackgroundWriter,
    RunFiles,
    check_finite,
    check_own,
    describe,
    snapshot,
    training_state,
)
from a2mim.registry import HOOKS
from a2mim.weights.files import remove_partials

IN_BETWEEN = 'iter_{}.pth'  # a checkpoint that an interval did not ask for
REFUSED = {
    'backend_args': 'checkpoints go to a local folder, whose files appear complete or not at all',
    'file_client_args': 'checkpoints go to a local folder',
    'save_optimizer': 'no run could be resumed without it',
    'save_param_scheduler': 'no run could be resumed without it',
}


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's ``CheckpointHook``, whose files survive a kill and are written in the background.

    Training waits for a copy of its state; a thread writes it (see ``RunFiles``), one file at a
    time, and its error stops the run after the next iteration. ``latest.pth`` is a relative link to
    the newest complete checkpoint. A state that is not finite is not saved. While gradients are
    accumulated there is nothing to save that a run could go on from: a checkpoint that is due then
    is written after the update, as ``iter_N.pth``.

    Args:
        **kwargs: Arguments of mmengine's hook, but for those in ``REFUSED``.

    Raises:
        TypeError: If an argument is unknown to mmengine's hook, which would ignore it until the
            first checkpoint is due.
        ValueError: If an argument is refused, or the folder is not a local one.
    """

    def __init__(self, **kwargs: object) -> None:
        for name in REFUSED.keys() & kwargs.keys():
            raise ValueError(f'{name}={kwargs[name]!r}: {REFUSED[name]}; leave it out')
        super().__init__(**kwargs)
        if self.args:
            raise TypeError(f'CheckpointHook has no argument {", ".join(map(repr, self.args))}')
        if '://' in str(self.out_dir or ''):
            raise ValueError(f'out_dir={self.out_dir!r} must be a local folder')
        self.writer = BackgroundWriter()
        self._overdue = False
        self._saved_iter: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the checkpoints of this run, and what a killed one left half written."""
        super().before_train(runner)
        self.file_backend = _NothingToRemove()
        folder, work_dir = Path(self.out_dir), Path(runner.work_dir)
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            for name in remove_partials(folder):
                runner.logger.info(f'removed {name}, left by a run that was killed')
        self.about = describe(runner)
        templates = (self.filename_tmpl, IN_BETWEEN)
        self.files = RunFiles(folder, work_dir, templates, self.max_keep_ckpts)
        if is_main_process():
            self.files.repair()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse the checkpoint of another model, or one that is no state to go on from."""
        check_own(runner, checkpoint)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: object = None,
    ) -> None:
        """Save what is due, and what could not be saved when it was; report a failed write."""
        self.writer.check()
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self._overdue and self.can_save(runner):
            self._save_iteration(runner)

    def after_train(self, runner: Runner) -> None:
        """Wait for the last file."""
        self.writer.wait()
        super().after_train(runner)

    def finish(self, runner: Runner) -> None:
        """Wait for the file that is being written while an error ends the run."""
        try:
            self.writer.wait()
        except Exception as error:
            runner.logger.error(str(error))

    def can_save(self, runner: Runner) -> bool:
        """Whether the state is one to go on from: no gradient waits for others to be added."""
        return runner.optim_wrapper.should_update()

    def save_now(self, runner: Runner) -> Path:
        """Save after an iteration, whatever the interval, and return once the file is on the disk.

        To be called from another hook's ``after_train_iter``, if ``can_save``.

        Returns:
            The file, ``iter_N.pth`` after N iterations.

        Raises:
            ValueError: If gradients are being accumulated.
        """
        if not self.can_save(runner):
            raise ValueError('accumulated gradients are not part of a checkpoint: ask can_save')
        if self._saved_iter != runner.iter + 1:
            self._save_iteration(runner)
        self.writer.wait()
        return Path(self.last_ckpt)

    def _save_iteration(self, runner: Runner) -> None:
        done = runner.iter + 1
        self._write_state(runner, IN_BETWEEN.format(done), dict(epoch=runner.epoch, iter=done))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self.can_save(runner):
            self._write_state(runner, self.filename_tmpl.format(step), meta)
        else:
            self._overdue = True
            runner.logger.info('gradients are being accumulated: saving after the update')

    def _write_state(self, runner: Runner, name: str, meta: dict) -> None:
        path = Path(self.out_dir, name)
        self._overdue, self._saved_iter, self.last_ckpt = False, meta['iter'], str(path)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._hand_over(runner, path, meta, weights_only=False)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        before = self._best_files()

        def save(out_dir: str, filename: str, meta: dict, **_: object) -> None:
            meta = meta | dict(resumable=False)
            outdated = before - self._best_files()
            path = Path(out_dir, filename)
            self._hand_over(runner, path, meta, weights_only=True, outdated=outdated)

        super()._save_best_checkpoint(_SavesOtherwise(runner, save), metrics)

    def _best_files(self) -> set[Path]:
        if not self.save_best:
            return set()
        several = len(self.key_indicators) > 1
        paths = self.best_ckpt_path_dict.values() if several else [self.best_ckpt_path]
        return {Path(path) for path in paths if path}

    def _hand_over(
        self,
        runner: Runner,
        path: Path,
        meta: dict,
        *,
        weights_only: bool,
        outdated: frozenset[Path] | set[Path] = frozenset(),
    ) -> None:
        """Copy the state, on the main process of all that take part, and let the thread write."""
        start = time.perf_counter()
        self.writer.wait()  # before the copy: there is never more than one in memory
        # A sharded model is put together by all processes.
        with getattr(runner.model, 'gathered', nullcontext)():
            state = training_state(runner, self.about | meta, weights_only=weights_only)
            if not is_main_process():
                return
            check_finite(state)
            state = snapshot(state)
        write = self.files.write_only if weights_only else self.files.write
        self.writer.submit(partial(write_and_log, runner.logger, write, path, state, outdated))
        pause = time.perf_counter() - start
        runner.logger.info(f'{path.name}: training paused for {pause:.2f} s, now being written')


def write_and_log(
    logger: MMLogger,
    write: Callable[[Path, dict], int],
    path: Path,
    state: dict,
    outdated: Iterable[Path],
) -> None:
    """The job of the thread: write, then remove what the file replaces."""
    start = time.perf_counter()
    size = write(path, state)
    for old in outdated:
        old.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    logger.info(f'{path.name}: {size / 2**20:.1f} MiB complete on the disk after {seconds:.2f} s')


class _NothingToRemove(LocalBackend):
    """Keeps mmengine's hook from removing a file whose successor is not there yet."""

    def isfile(self, filepath: str | Path) -> bool:
        return False

    def isdir(self, filepath: str | Path) -> bool:
        return False


class _SavesOtherwise:
    """A runner for mmengine's hook, with another ``save_checkpoint``."""

    def __init__(self, runner: Runner, save: Callable[..., None]) -> None:
        self._runner, self.save_checkpoint = runner, save

    def __getattr__(self, name: str) -> object:
        return getattr(self._runner, name)
