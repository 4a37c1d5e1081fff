"""When the state of a run becomes a file, and what training waits for."""

import copy
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import mmengine
import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import _ParamScheduler
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from a2mim.engine.mmengine_fixes import RuntimeInfoHook
from a2mim.errors import NotFiniteStateError
from a2mim.registry import HOOKS
from a2mim.weights.files import CheckedFile, remove_partials, replace_link, write_patiently
from a2mim.weights.fit import compare
from a2mim.weights.safe_load import check_members, peek

# [newest]
# The newest checkpoint of a folder that is whole, and why others were passed over.


# What a run needs to go on. Files of weights, such as exported ones, lack some of it.
NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The whole file with the most iterations in it, and a line for each one passed over.

    The order is that of the iterations that the files hold: times change when a folder is copied.
    Names that begin with ``best_`` and links, ``latest.pth`` among them, are no candidates.
    """
    skipped, iterations = [], {}
    for path in sorted(folder.glob('*.pth')):
        if path.is_symlink() or path.name.startswith('best_'):
            continue
        try:
            iterations[path] = iteration_of(path)
        except (ValueError, OSError) as error:
            skipped.append(f'skipped {path}: {error}')
    for path in sorted(iterations, key=iterations.get, reverse=True):
        try:
            check_members(path)
        except ValueError as error:
            skipped.append(f'skipped {path}: {error}')
            continue
        return path, skipped
    return None, skipped


def iteration_of(path: Path) -> int:
    """Iterations done when ``path`` was written.

    Raises:
        ValueError: If no run can go on from it; the message is the reason.
    """
    content = peek(path)
    absent = [entry for entry in NEEDED if content.get(entry) is None]
    if absent:
        raise ValueError(f'it has no {", ".join(absent)}')
    iteration = content['meta'].get('iter')
    if not isinstance(iteration, int):
        raise ValueError(f'its iteration is {iteration!r}')
    return iteration


# [snapshot]
# A copy of a state on the CPU, which nothing changes while it is being written.


def snapshot(state: object) -> object:
    """``state`` with every tensor copied to the CPU, and every other value copied, too.

    Tensors of a GPU go to pinned memory without waiting for each other; the host waits once, at
    the end. Tensors that are the same memory (tied weights) stay one.
    """
    copies: dict[tuple, Tensor] = {}
    result = _copied(state, copies)
    if any(key[0].type == 'cuda' for key in copies):
        torch.cuda.synchronize()
    return result


def _copied(value: object, copies: dict[tuple, Tensor]) -> object:
    if isinstance(value, Tensor):
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if key not in copies:
            copies[key] = _on_cpu(value.detach())
        return copies[key]
    if isinstance(value, dict):
        fresh = copy.copy(value)  # a Counter made from pairs would count the pairs
        for key, entry in value.items():
            fresh[key] = _copied(entry, copies)
        # The state_dict of a module carries the versions of its layers as an attribute.
        if hasattr(value, '_metadata'):
            fresh._metadata = copy.deepcopy(value._metadata)
        return fresh
    if type(value) in (list, tuple):
        return type(value)(_copied(entry, copies) for entry in value)
    return copy.deepcopy(value)


def _on_cpu(tensor: Tensor) -> Tensor:
    if tensor.device.type == 'cpu':
        return tensor.clone()
    pinned = tensor.device.type == 'cuda'
    fresh = torch.empty_like(tensor, device='cpu', pin_memory=pinned)
    return fresh.copy_(tensor, non_blocking=pinned)


def num_bytes(state: object) -> int:
    """Bytes of the tensors in ``state``, the least that its file takes."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, dict):
        return sum(map(num_bytes, state.values()))
    return sum(map(num_bytes, state)) if type(state) in (list, tuple) else 0


# [run_files]
# The checkpoints of a run as files: which name means what, and which one goes when.


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


# [own_state]
# A checkpoint goes into its own model only, and a run goes on from whole states only.


# A new run may start from a checkpoint with another head, but not with another trunk.
MIN_MATCH = 0.9


def check_own(runner: Runner, checkpoint: dict) -> None:
    """Refuse the checkpoint of another model, which mmengine would load in part.

    Raises:
        ValueError: If too few tensors match by name and shape: in a resumed run and in a test
            all have to. Also if there are only weights to resume from, or half an update.
    """
    absent = {'meta', 'message_hub', 'optimizer'} - checkpoint.keys()
    if runner._resume and not (checkpoint.get('meta') or {}).get('resumable', True):
        raise ValueError(
            f'{runner._load_from} was written to be evaluated, perhaps in the middle of an update: '
            'resume from latest.pth beside it, or start a new run from it with --load-checkpoint'
        )
    if runner._resume and absent:
        raise ValueError(
            f'{runner._load_from} has no {", ".join(sorted(absent))}: a run cannot be resumed '
            'from it, only started, with --load-checkpoint'
        )
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    report = compare(model, checkpoint.get('state_dict', checkpoint))
    starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
    needed = MIN_MATCH if starts else 1.0
    if report.rate < needed:
        raise ValueError(
            f'{runner._load_from} does not fit {type(model).__name__}: {report}; at least '
            f'{needed:.0%} must match. Does it belong to another config?'
        )


# [training_state]
# What a checkpoint holds: the entries of mmengine's, still where training has them.
#
# ``Runner.save_checkpoint`` of mmengine collects the same, but copies each tensor by itself and
# writes in place, all while training waits.


def training_state(runner: Runner, meta: dict, *, weights_only: bool) -> dict:
    """The state of ``runner`` as live tensors, after every hook has added its share.

    Args:
        runner: A run between two iterations.
        meta: What to say beside the tensors: ``epoch`` and ``iter``, both finished, and what
            ``describe`` finds.
        weights_only: Leave out the optimiser and the schedulers.
    """
    for hook in runner.hooks:
        if isinstance(hook, RuntimeInfoHook):
            hook.flush(runner)  # values that wait for their log line
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    state = dict(
        meta={**meta, 'time': time.strftime('%Y%m%d_%H%M%S')},
        state_dict=model.state_dict(),
        message_hub=runner.message_hub.state_dict(),
    )
    if not weights_only:
        state['optimizer'] = runner.optim_wrapper.state_dict()
        state['param_schedulers'] = scheduler_states(runner.param_schedulers or [])
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state


def describe(runner: Runner) -> dict:
    """Where the states of a run come from; to format the config takes long, so ask once."""
    about = dict(
        cfg=runner.cfg.pretty_text,
        seed=runner.seed,
        experiment_name=runner.experiment_name,
        mmengine_version=mmengine.__version__,
    )
    dataset = runner.train_dataloader.dataset
    return about | (dict(dataset_meta=dataset.metainfo) if hasattr(dataset, 'metainfo') else {})


def scheduler_states(
    schedulers: list[_ParamScheduler] | dict[str, list[_ParamScheduler]],
) -> list[dict] | dict[str, list[dict]]:
    """The states of one optimiser's schedulers, or of several by name."""
    if isinstance(schedulers, dict):
        return {name: scheduler_states(own) for name, own in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]


# [finite]
# No state that is not finite becomes a checkpoint.


NAMED = 3  # tensors that the message names


def check_finite(state: object) -> None:
    """Look at every floating-point tensor in ``state``, and wait for the device once.

    Raises:
        NotFiniteStateError: Naming the first tensors that are not finite.
    """
    by_kind: dict[tuple, list[tuple[str, Tensor]]] = defaultdict(list)
    for name, tensor in named_tensors(state):
        if tensor.is_floating_point() and tensor.numel():
            by_kind[tensor.device, tensor.dtype].append((name, tensor.detach()))
    bad = []
    for pairs in by_kind.values():
        # The largest magnitude: NaN and infinity stay what they are, and nothing overflows.
        largest = torch._foreach_norm([tensor for _, tensor in pairs], float('inf'))
        finite = torch.stack(largest).isfinite().tolist()
        bad += [name for (name, _), fine in zip(pairs, finite, strict=True) if not fine]
    if bad:
        more = f' and {len(bad) - NAMED} more' if len(bad) > NAMED else ''
        raise NotFiniteStateError(
            f'not finite: {", ".join(bad[:NAMED])}{more}; such a state is never saved. A lower '
            'learning rate, clip_grad or bfloat16 in place of float16 help most often'
        )


def named_tensors(state: object, prefix: str = '') -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dicts and lists, with dotted names."""
    if isinstance(state, Tensor):
        yield prefix[:-1], state
        return
    if isinstance(state, dict):
        items = state.items()
    else:
        items = enumerate(state) if type(state) in (list, tuple) else ()
    for name, entry in items:
        yield from named_tensors(entry, f'{prefix}{name}.')


# [background]
# One thread that writes while training goes on, one file at a time.
#
# ``torch.distributed.checkpoint.async_save`` does the same for a folder of shards in a format of
# its own; a checkpoint here is one file that ``torch.load`` and every other tool reads.


class BackgroundWriter:
    """Run one job at a time in a thread; its error is raised where the trainer asks next.

    Python waits for the thread before it exits, so that a job which was begun is completed.
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
        """Raise the error of a job that has failed; wait for none."""
        if self._job is not None and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Return once nothing is being written; raise the error of the job, once."""
        job, self._job = self._job, None
        if job is not None:
            job.result()


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
