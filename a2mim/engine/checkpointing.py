"""Checkpoints: when a run is saved, what a file holds, and from which files a run resumes.

Training waits only for a copy of its state on the CPU; one thread writes the copy to disk, and
``a2mim.weights.files`` makes each file appear complete or not at all.
"""

import math
import operator
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import cast

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from a2mim.engine.records import Record
from a2mim.engine.training_state import (
    check_finite,
    check_own,
    describe,
    num_bytes,
    snapshot,
    training_state,
)
from a2mim.errors import NotWrittenError
from a2mim.length import SHOWN
from a2mim.options import LATEST
from a2mim.registry import HOOKS
from a2mim.weights.files import HeldFolder, remove_partials, replace_link, write_atomically
from a2mim.weights.safe_load import check_members, peek

LAST = 'last_checkpoint'  # mmengine's: a text file with a path
OUT_OF_TURN = 'iter_{}.pth'  # a checkpoint that the interval did not ask for
REFUSED = {
    'backend_args': 'checkpoints go to a local folder, whose files appear complete or not at all',
    'file_client_args': 'checkpoints go to a local folder',
    'save_optimizer': 'no run could be resumed without it',
    'save_param_scheduler': 'no run could be resumed without it',
    'published_keys': 'tools/model_converters/publish_model.py publishes a checkpoint',
}
# Metrics whose direction is known by a part of their name: mmengine's lists.
GREATER_KEYS = ['acc', 'top', 'AR@', 'auc', 'precision', 'mAP', 'mDice', 'mIoU', 'mAcc', 'aAcc']
LESS_KEYS = ['loss']
RULES = {'greater': (operator.gt, -math.inf), 'less': (operator.lt, math.inf)}


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Save a run in the background, in files that survive a kill; options are mmengine's.

    A thread writes one file at a time (see ``RunFiles``); its error stops the run after the next
    iteration. ``latest.pth`` is a relative link to the newest complete checkpoint. A state that is
    not finite is not saved. While gradients are accumulated no state can be resumed exactly: a
    checkpoint that is due then is written after the update, as ``iter_N.pth``.

    Args:
        interval: Epochs or iterations between checkpoints; -1 for none, None for a twentieth of the
            run.
        by_epoch: Whether ``interval`` counts epochs.
        max_keep_ckpts: How many checkpoints are kept; -1 for all.
        save_last: Also save at the end of the training.
        save_best: Metrics whose best validation result saves the weights as
            ``best_METRIC_….pth``; ``'auto'`` takes the first metric.
        rule: ``'greater'`` or ``'less'`` is better, one for all metrics or one each; None derives
            it from the metric's name.
        greater_keys, less_keys: Parts of the names from which the rule is derived.
        out_dir: Parent of the checkpoints' folder, which is named like the work dir; None writes
            to the work dir itself.
        filename_tmpl: Name of the files, with ``{}`` for the number of epochs or iterations.
        save_begin: Epoch or iteration from which the interval counts.
        refused: None; arguments of mmengine's hook in ``REFUSED`` end with a reason.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If an argument is refused, the folder is not local, a rule cannot be derived, or
            metrics and rules do not correspond.
    """

    priority = 'VERY_LOW'
    alone = False  # whether this process saves without the others, which are missing

    def __init__(
        self,
        interval: int | None = -1,
        *,
        by_epoch: bool = True,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | list[str] | None = None,
        rule: str | list[str] | None = None,
        greater_keys: str | Sequence[str] | None = None,
        less_keys: str | Sequence[str] | None = None,
        out_dir: str | Path | None = None,
        filename_tmpl: str | None = None,
        save_begin: int = 0,
        **refused: object,
    ) -> None:
        for name, value in refused.items():
            if name not in REFUSED:
                raise TypeError(f'CheckpointHook has no argument {name!r}')
            raise ValueError(f'{name}={value!r}: {REFUSED[name]}; leave it out')
        if '://' in str(out_dir or ''):
            raise ValueError(f'out_dir={out_dir!r} must be a local folder')
        self.interval, self.by_epoch, self.save_begin = interval or 0, by_epoch, save_begin
        self._whole_run = interval is None
        self.max_keep_ckpts, self.save_last, self.out_dir = max_keep_ckpts, save_last, out_dir
        self.filename_tmpl = filename_tmpl or ('epoch_{}.pth' if by_epoch else 'iter_{}.pth')
        self.best = BestResults(save_best, rule, greater_keys, less_keys) if save_best else None
        self.last_ckpt: str | None = None
        self.writer = BackgroundWriter()
        self._overdue = False
        self._saved_iter: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the checkpoints of this run; remove what a killed run left half written."""
        work_dir = Path(runner.work_dir)
        folder = checkpoint_folder(self.out_dir, work_dir)
        runner.logger.info(f'Checkpoints will be saved to {folder}.')
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            for name in remove_partials(folder, '.pth'):
                runner.logger.info(f'removed {name}, left by a run that was killed')
        if self._whole_run:
            whole = runner.max_epochs if self.by_epoch else runner.max_iters
            self.interval = math.ceil(whole / SHOWN)
        self.about = describe(runner)
        templates = (self.filename_tmpl, OUT_OF_TURN)
        self.files = RunFiles(folder, work_dir, templates, self.max_keep_ckpts)
        if is_main_process():
            self.files.hold()
            self.files.repair()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse the checkpoint of another model, and one that cannot be resumed."""
        check_own(runner, checkpoint)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save, if the epoch is due."""
        due = self.every_n_epochs(runner, self.interval, self.save_begin)
        if self.by_epoch and (due or (self.save_last and self.is_last_train_epoch(runner))):
            epoch = runner.epoch + 1
            self._save_if_possible(runner, epoch, dict(epoch=epoch, iter=runner.iter))

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Save what is due, now or since an earlier iteration; report a failed write."""
        self.writer.check()
        due = self.every_n_train_iters(runner, self.interval, self.save_begin)
        if not self.by_epoch and (due or (self.save_last and self.is_last_train_iter(runner))):
            done = runner.iter + 1
            self._save_if_possible(runner, done, dict(epoch=runner.epoch, iter=done))
        if self._overdue and self.can_save(runner):
            self._save_iteration(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Save the weights for every metric that has its best result; then the run once more.

        The checkpoint of this epoch holds the previous best results until it is written again.
        """
        if self.best is None:
            return
        if not metrics:
            runner.logger.warning('the validation has no metrics: no best checkpoint is saved')
            return
        done = runner.epoch if self.by_epoch else runner.iter
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        improved = False
        for metric in self.best.improved(runner, metrics):
            improved = True
            name = f'best_{metric}_{self.filename_tmpl.format(done)}'.replace('/', '_')
            path = self.files.folder / name
            outdated = self.best.replace_file(runner, metric, path)
            self._save(runner, path, meta, outdated=outdated, resumable=False)
            runner.logger.info(f'best {metric} so far, {metrics[metric]:0.4f}: saved to {name}')
        if improved and self.last_ckpt is not None:
            self._save_if_possible(runner, done, meta)

    def after_train(self, runner: Runner) -> None:
        """Wait for the last file."""
        self.writer.wait()

    def finish(self, runner: Runner) -> None:
        """Wait for the file that is being written while an error ends the run."""
        try:
            self.writer.wait()
        except Exception as error:
            runner.logger.error(str(error))
        if hasattr(self, 'files'):  # not if another hook has failed before the first step
            self.files.release()

    def can_save(self, runner: Runner) -> bool:
        """Whether the state can be resumed: no gradient is being accumulated."""
        return cast(OptimWrapper, runner.optim_wrapper).should_update()

    def save_now(self, runner: Runner, *, done: int | None = None) -> Path:
        """Save after an iteration, whatever the interval, and return once the file is on the disk.

        To be called if ``can_save``.

        Args:
            runner: The run.
            done: Iterations that are complete; None in another hook's ``after_train_iter``.

        Returns:
            The file, ``iter_N.pth`` after N iterations.

        Raises:
            ValueError: If gradients are being accumulated.
        """
        if not self.can_save(runner):
            raise ValueError('accumulated gradients are not part of a checkpoint: ask can_save')
        done = runner.iter + 1 if done is None else done
        if self._saved_iter != done:
            self._save_iteration(runner, done)
        self.writer.wait()
        return Path(cast(str, self.last_ckpt))

    def _save_iteration(self, runner: Runner, done: int) -> None:
        self._save_run(runner, OUT_OF_TURN.format(done), dict(epoch=runner.epoch, iter=done))

    def _save_if_possible(self, runner: Runner, step: int, meta: dict) -> None:
        if self.can_save(runner):
            self._save_run(runner, self.filename_tmpl.format(step), meta)
        else:
            self._overdue = True
            runner.logger.info('gradients are being accumulated: saving after the update')

    def _save_run(self, runner: Runner, name: str, meta: dict) -> None:
        path = self.files.folder / name
        self._overdue, self._saved_iter, self.last_ckpt = False, meta['iter'], str(path)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._save(runner, path, meta)

    def _save(
        self,
        runner: Runner,
        path: Path,
        meta: dict,
        *,
        outdated: Path | None = None,
        resumable: bool = True,
    ) -> None:
        """Copy the state in the main process and let the thread write it."""
        start = time.perf_counter()
        self.writer.wait()  # before the copy: there is never more than one in memory
        meta = self.about | meta | ({} if resumable else dict(resumable=False))
        # A sharded model is put together by all processes.
        with getattr(runner.model, 'gathered', nullcontext)():
            state = training_state(runner, meta, weights_only=not resumable)
            if not is_main_process() and not self.alone:
                return
            check_finite(state)
            state = snapshot(state)
        self.writer.submit(partial(self._write, runner.logger, path, state, outdated, resumable))
        pause = time.perf_counter() - start
        runner.logger.info(f'{path.name}: training paused for {pause:.2f} s, now being written')

    def _write(
        self, logger: MMLogger, path: Path, state: dict, outdated: Path | None, resumable: bool
    ) -> None:
        """The job of the thread: write, then remove what the file replaces."""
        start = time.perf_counter()
        size = self.files.write(path, state, resumable=resumable)
        if outdated is not None:
            outdated.unlink(missing_ok=True)
        seconds = time.perf_counter() - start
        size_mib = size / 2**20
        logger.info(f'{path.name}: {size_mib:.1f} MiB complete on the disk after {seconds:.2f} s')


def find_saver(runner: Runner) -> CheckpointHook | None:
    """The hook that saves this run, if one does."""
    return next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)


def checkpoint_folder(out_dir: str | Path | None, work_dir: str | Path) -> Path:
    """The folder of a run's checkpoints: ``work_dir``, or one of its name in ``out_dir``."""
    work_dir = Path(work_dir)
    if not out_dir or Path(out_dir) == work_dir:
        return work_dir
    return Path(out_dir, work_dir.name)


class BestResults:
    """Best validation result per metric, in the message hub, which every checkpoint carries.

    The entries are mmengine's: ``best_score`` and ``best_ckpt`` for one metric, and with the
    metric's name appended (``best_score_mIoU``) for several.

    Args:
        save_best, rule, greater_keys, less_keys: As for ``CheckpointHook``.
    """

    def __init__(
        self,
        save_best: str | list[str],
        rule: str | list[str] | None,
        greater_keys: str | Sequence[str] | None,
        less_keys: str | Sequence[str] | None,
    ) -> None:
        self.metrics = listed(save_best)
        given = [None] if rule is None else [*listed(rule)]
        self._given = given * len(self.metrics) if len(given) == 1 else given
        self._keys = {
            'greater': listed(greater_keys or GREATER_KEYS),
            'less': listed(less_keys or LESS_KEYS),
        }
        unique = len({*self.metrics}) == len(self.metrics) == len(self._given)
        if not unique or ('auto' in self.metrics and len(self.metrics) > 1):
            raise ValueError(
                f'save_best={save_best!r} must name different metrics, or only "auto", and '
                f'rule={rule!r} must be one rule, or one for each of them'
            )
        self.rules = {} if self.metrics == ['auto'] else self._all_rules()

    def improved(self, runner: Runner, metrics: dict[str, float]) -> Iterator[str]:
        """Names of the metrics with a new best result, which is noted."""
        if not self.rules:
            self.metrics = [next(iter(metrics))]
            self.rules = self._all_rules()
        for metric, rule in self.rules.items():
            if metric not in metrics:
                raise KeyError(f'save_best={metric!r} is no metric of the validation: {[*metrics]}')
            better, worst = RULES[rule]
            key = self._entry('best_score', metric)
            before = runner.message_hub.get_info(key, worst)
            if metrics[metric] is not None and better(metrics[metric], before):
                runner.message_hub.update_info(key, metrics[metric])
                yield metric

    def replace_file(self, runner: Runner, metric: str, path: Path) -> Path | None:
        """Note ``path`` as the best checkpoint; return the one that it replaces."""
        key = self._entry('best_ckpt', metric)
        before = runner.message_hub.get_info(key)
        runner.message_hub.update_info(key, str(path))
        return Path(before) if before and Path(before) != path else None

    def _entry(self, name: str, metric: str) -> str:
        return name if len(self.metrics) == 1 else f'{name}_{metric}'

    def _all_rules(self) -> dict[str, str]:
        return {m: self._rule(m, rule) for m, rule in zip(self.metrics, self._given, strict=True)}

    def _rule(self, metric: str, given: str | None) -> str:
        name = metric.lower()
        keys = {rule: [key.lower() for key in known] for rule, known in self._keys.items()}
        for match in (name.__eq__, name.__contains__):
            for rule in RULES:
                if given == rule or (given is None and any(map(match, keys[rule]))):
                    return rule
        raise ValueError(
            f'save_best={metric!r} needs rule="greater" or rule="less"; it is {given!r}, and the '
            "direction does not follow from the metric's name"
        )


def listed(names: str | Sequence[str]) -> list[str]:
    """One name or several as a list."""
    return [names] if isinstance(names, str) else [*names]


class BackgroundWriter:
    """Run one job at a time in a thread; its error is raised where the trainer asks next.

    Python waits for the thread before it exits, so that a job which was begun is completed.
    ``torch.distributed.checkpoint.async_save`` writes a folder of shards in a format of its own; a
    checkpoint here is one file that ``torch.load`` and every other tool reads.
    """

    def __init__(self) -> None:
        # The thread itself is started by the first job.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix='checkpoint')
        self._job: Future[None] | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Begin ``job``, after the one before, whose error is raised here."""
        self.wait()
        self._job = self._executor.submit(job)

    def check(self) -> None:
        """Raise the error of a job that has failed; do not wait."""
        if self._job is not None and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Return once nothing is being written; raise the error of the job, once."""
        job, self._job = self._job, None
        if job is not None:
            job.result()


class RunFiles:
    """The files of a run: write states, keep the newest few, point ``latest.pth`` to the newest.

    A file is removed only after its successor is complete. A file that cannot be read is never
    removed.

    Args:
        folder: Where the checkpoints are.
        work_dir: Where mmengine's ``last_checkpoint`` is.
        templates: Names of checkpoints, with ``{}`` for a number.
        keep: How many stay; less than 1 for all of them.
    """

    def __init__(self, folder: Path, work_dir: Path, templates: tuple[str, ...], keep: int) -> None:
        self.folder, self.work_dir, self.keep = folder, work_dir, keep
        names = re.compile('|'.join(re.escape(n).replace(r'\{\}', r'\d+') for n in templates))
        self.kept = [path for path in readable(folder)[0] if names.fullmatch(path.name)]
        self.last: Path | None = self.kept[-1] if self.kept else None
        self._record = Record(f"mmengine's {LAST}")
        self._held: HeldFolder | None = None

    def hold(self) -> None:
        """Notice from here on if the folder is moved or deleted."""
        self._held = HeldFolder(self.folder)

    def release(self) -> None:
        """Undo ``hold``."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def write(self, path: Path, state: dict, *, resumable: bool = True) -> int:
        """Write a state; if it can be resumed, mark it as the latest and remove the oldest.

        Returns:
            Size of the file in bytes.

        Raises:
            NotWrittenError: If the disk refuses, or if the folder was moved or deleted: a state
                that can be resumed is then in the file that the message names.
        """
        place = None if self._held is None else self._held.find()
        if place is not None:
            path = moved_file(path, place)
        size = write_atomically(path, partial(torch.save, state), num_bytes(state), self._advice())
        if place is not None and resumable:
            replace_link(path.parent / LATEST, path.name)
            raise NotWrittenError(
                f'{self.folder} was moved or deleted during the run, which ends; its state is '
                f'saved to {path}: put the folder back under its name, or add --resume {path}'
            )
        if resumable:
            self._mark(path)
            self.last = path
            self.kept = [*(old for old in self.kept if old != path), path]
            while self.keep > 0 and len(self.kept) > self.keep:
                self.kept.pop(0).unlink(missing_ok=True)
        return size

    def repair(self) -> None:
        """Point ``latest.pth`` and mmengine's file to the newest complete checkpoint.

        A run that was killed between a file and its link left the link on the file before.
        """
        link = self.folder / LATEST
        if self.last is None or (link.is_symlink() and link.readlink() == Path(self.last.name)):
            return
        self.last, _ = newest_checkpoint(self.folder)
        if self.last is not None:
            self._mark(self.last)

    def _mark(self, path: Path) -> None:
        replace_link(path.parent / LATEST, path.name)
        name = str(path).encode()
        if not self._record.off:
            with self._record.attempt():
                write_atomically(self.work_dir / LAST, lambda file: file.write(name))

    def _advice(self) -> str:
        if self.last is None:
            return 'No checkpoint has been written yet; make room or give another --work-dir'
        return f'{self.last} is intact: make room, and resume with --resume auto'


def moved_file(path: Path, folder: Path) -> Path:
    """The file of the name of ``path`` in ``folder``, which is made.

    Raises:
        NotWrittenError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWrittenError(
            f'{path} could not be written: its folder was moved or deleted during the run, and '
            f'{folder} cannot be made ({error.strerror})'
        ) from error
    return folder / path.name


# What a run needs to resume. Files of weights, such as exported ones, lack some of it.
NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')
# Their parts, with the type of each; bool is no number here.
PARTS: dict[str, dict[str, type]] = {
    'meta': dict(epoch=int, iter=int),
    'message_hub': dict(log_scalars=dict, runtime_info=dict, resumed_keys=dict),
    'optimizer': dict(state=dict, param_groups=list),
}
# What may be absent, and is of this type where it is there.
OPTIONAL: dict[str, tuple[type, ...]] = dict(
    param_schedulers=(list, dict), finite_guard=(dict,), ema_state_dict=(dict,)
)
OF_META: dict[str, tuple[type, ...]] = dict(run=(dict,), cfg=(str,), seed=(int,))


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The complete checkpoint with the most iterations, and a line for each skipped file.

    The order is that of the iterations in the files: times change when a folder is copied.
    """
    paths, skipped = readable(folder)
    for path in reversed(paths):
        try:
            check_members(path)
        except ValueError as error:
            skipped.append(f'skipped {path}: {error}')
            continue
        return path, skipped
    return None, skipped


def readable(folder: Path) -> tuple[list[Path], list[str]]:
    """Checkpoints in ``folder`` in the order of their iterations, and a line for the others.

    Names that begin with ``best_`` and links, such as ``latest.pth``, are left out.
    """
    skipped, iterations = [], {}
    for path in sorted(folder.glob('*.pth')):
        if path.is_symlink() or path.name.startswith('best_'):
            continue
        try:
            iterations[path] = iteration_of(path)
        except (ValueError, OSError) as error:
            skipped.append(f'skipped {path}: {error}')
    return sorted(iterations, key=iterations.__getitem__), skipped


def iteration_of(path: Path) -> int:
    """Iterations done when ``path`` was written.

    Raises:
        ValueError: If no run can resume from it; the message is the reason.
    """
    content = peek(path)
    check_entries(content)
    return content['meta']['iter']


def check_entries(content: dict) -> None:
    """Check that the entries of a checkpoint are those from which a run resumes.

    Raises:
        ValueError: If one is missing or of another type; the message is the reason.
    """
    absent = [entry for entry in NEEDED if content.get(entry) is None]
    if absent:
        raise ValueError(f'it has no {", ".join(absent)}')
    for entry in NEEDED:
        if not isinstance(content[entry], dict):
            raise ValueError(f'its {entry} is {named_type(content[entry])}')
    for entry, parts in PARTS.items():
        value = content[entry]
        several = entry == 'optimizer' and value and not parts.keys() & value.keys()
        for each in value.values() if several else [value]:
            check_parts(entry, each, parts)
    if min(content['meta']['iter'], content['meta']['epoch']) < 0:
        raise ValueError(f'its meta counts {content["meta"]["iter"]} iterations')
    for where, entries in (('', OPTIONAL), ('meta.', OF_META)):
        owner = content['meta'] if where else content
        for name, types in entries.items():
            if not isinstance(owner.get(name), (*types, type(None))):
                raise ValueError(f'its {where}{name} is {named_type(owner[name])}')


def check_parts(entry: str, value: object, parts: dict[str, type]) -> None:
    """Check the parts of one entry of a checkpoint.

    Raises:
        ValueError: If one is missing or of another type; the message is the reason.
    """
    found = value if isinstance(value, dict) else {}
    for part, kind in parts.items():
        if part not in found:
            raise ValueError(f'its {entry} has no {part}')
        # OrderedDict is a dict; True would pass for a number.
        if not isinstance(found[part], kind) or isinstance(found[part], bool):
            raise ValueError(f'its {entry}.{part} is {named_type(found[part])}')


def named_type(value: object) -> str:
    """A value in a message: short ones as they are, others by their type."""
    plain = value is None or isinstance(value, (int, float, str))
    return repr(value) if plain else f'a {type(value).__name__}'
