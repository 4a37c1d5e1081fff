"""Resuming: find the checkpoint, check that it belongs to this training, and load it.

A run is resumed from a checkpoint of its own, and only as the same training; a new run or a test
takes the weights of any system, fitted to the model or refused.
"""

import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import cast

import torch
from mmengine import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, Runner

from a2mim.engine.checkpointing import LAST, iteration_of, newest_checkpoint
from a2mim.engine.config_check import RUNNER_KEYS
from a2mim.engine.config_edit import BatchPlan, compare_plans
from a2mim.engine.loops import batch_size
from a2mim.engine.processes import bare_model
from a2mim.engine.runner import complete_hooks, hook_class
from a2mim.length import AUTO
from a2mim.registry import HOOKS, MODELS
from a2mim.weights.fit import check_classes, fit_model, without_other_classes
from a2mim.weights.names import BACKBONE
from a2mim.weights.recipe import literal_config
from a2mim.weights.safe_load import peek


def find_checkpoint(
    resume: str, work_dir: str, folder: Path | None = None
) -> tuple[str | None, list[str]]:
    """The checkpoint to resume from, and a log line for each newer file that is incomplete.

    No file if ``resume`` is ``'auto'`` and nothing was saved yet. Where ``out_dir`` is set, added
    or dropped between two parts of a run, the checkpoints lie in several folders: the one with the
    most iterations counts.

    Args:
        resume: A file, or ``'auto'``.
        work_dir: Of the run.
        folder: Of its checkpoints, see ``checkpoint_folder``; None for the work dir.

    Raises:
        FileNotFoundError: If a named file is missing.
        ValueError: If there are checkpoints, and none of them can be resumed.
    """
    if resume != 'auto':
        if not Path(resume).is_file():
            raise FileNotFoundError(f'--resume {resume}: there is no such file')
        try:
            iteration_of(Path(resume))
        except ValueError as error:
            raise ValueError(
                f'--resume {resume}: no run can be resumed from it: {error}'
            ) from error
        return resume, []
    folders = list(dict.fromkeys([folder or Path(work_dir), Path(work_dir)]))
    if not any(path for each in folders for path in each.glob('*.pth')):
        folders += earlier_folder(work_dir)
    results = [newest_checkpoint(each) for each in folders]
    skipped = [line for _, lines in results for line in lines]
    newest = max((path for path, _ in results if path), key=iteration_of, default=None)
    if newest is not None:
        return str(newest), skipped
    found = sorted(path.name for each in folders for path in each.glob('*.pth'))
    if found:
        reasons = '; '.join(skipped) or f'{", ".join(found[:3])} hold no state to resume from'
        raise ValueError(
            f'{folders[0]} has no checkpoint to resume from: {reasons}. Put back a whole copy, or '
            'start anew in another --work-dir'
        )
    return None, []


def earlier_folder(work_dir: str) -> list[Path]:
    """The folder of the file that mmengine's ``last_checkpoint`` in the work dir names, if any."""
    try:
        last = Path(Path(work_dir, LAST).read_text(encoding='utf-8').strip())
        return [last.parent] if last.is_file() else []
    except (OSError, ValueError):  # a file of another program under this name
        return []


def refuse_foreign(checkpoint: str, work_dir: str) -> None:
    """Refuse a checkpoint outside of the work dir, such as in ``out_dir``, that is another run's.

    Raises:
        ValueError: If the work dir in its config is another folder, which still exists.
    """
    meta = peek(Path(checkpoint)).get('meta') or {}
    owner = str((literal_config(meta.get('cfg') or '') or {}).get('work_dir') or work_dir)
    if Path(owner).is_dir() and os.path.realpath(owner) != os.path.realpath(work_dir):
        raise ValueError(
            f'{checkpoint} belongs to the run in {owner}, not to {work_dir}; give this run a '
            f'--work-dir of another name, or continue that one with --resume {checkpoint}'
        )


# The entries of a config that define a training; a resumed run may change all others.
TRAINING = (
    'model',
    'train_dataloader',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'randomness',
    'default_hooks',
    'custom_hooks',
)
# Names at any depth of these that define nothing.
FREE = {
    *('init_cfg', 'zero_init_last'),  # the checkpoint replaces initial weights
    *('grad_checkpointing', 'with_cp'),  # the same values in less memory
    *('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'timeout'),
    *('batch_size', 'accumulative_counts'),  # their product with the world size is in the record
    *('root', 'data_root', 'list_file', 'on_bad_image'),  # the number of images is in the record
    *('val_begin', 'val_interval', 'dynamic_intervals'),
}
# Hooks of the libraries that change nothing in a training; ours declare it as ``only_looks``.
ONLY_LOOK = (
    'CheckpointHook',
    'LoggerHook',
    'IterTimerHook',
    'DetVisualizationHook',
    'SegVisualizationHook',
)
# Entries that differ in every resumed run.
START = {'work_dir', 'resume', 'load_from', 'launcher', 'experiment_name'}
# The length of a training, and what schedules call theirs.
LENGTHS = {'max_epochs': 'epochs', 'max_iters': 'iterations'}
SPANS = ('end', 'T_max', 'total_steps')
NAMED = 8  # differences that a message lists


def check_config(cfg: Config, checkpoint: str, schedule: str | None = None) -> list[str]:
    """Compare ``cfg`` with the config in ``checkpoint``; fit its schedules to a longer training.

    Args:
        cfg: Of the run that is resumed; the lengths of its schedules are changed in place.
        checkpoint: Of the run that was stopped; if it holds no config, nothing is compared.
        schedule: In a training that is longer, ``'follow'`` (and None) lets the schedules end with
            it, ``'keep'`` lets them end where they did.

    Returns:
        Lines for the log: the extension, and what differs without changing the training.

    Raises:
        ValueError: If an entry differs that changes the training.
    """
    meta = peek(Path(checkpoint)).get('meta') or {}
    before = literal_config(meta.get('cfg') or '')
    if not before:
        return []
    train_cfg = before.get('train_cfg') or {}
    if (cfg.get('train_cfg') or {}).get('max_epochs') == AUTO and 'max_epochs' in train_cfg:
        cfg.train_cfg.max_epochs = train_cfg['max_epochs']  # as it was chosen when the run began
    # The length of a run that a time limits is decided late, and stated in its config then.
    limited = any(hook.get('type') == 'TimeBudgetHook' for hook in before.get('custom_hooks') or ())
    longer = None if limited else find_extension(before, cfg)
    record = meta.get('run') or {}
    follows = schedule == 'follow' or (longer is not None and schedule is None)
    if longer is not None and follows:
        follow_length(cfg, before, record, longer[2])
    elif schedule == 'keep':
        keep_length(cfg, before, record)
    free = FREE | (LENGTHS.keys() if longer else set())
    free |= {*SPANS, 'milestones'} if follows else set()
    free |= {*LENGTHS, *SPANS} if limited else set()
    # Through the same text form, so that both have the same types.
    now = literal_config(cfg.pretty_text) or {}
    changed = differences(training_entries(before, free), training_entries(now, free))
    if changed:
        raise ValueError(
            f'{checkpoint} was trained with another config ({abridged(changed)}); resume with the '
            'config that it was trained with, or start a new run in another --work-dir with '
            '--load-checkpoint'
        )
    harmless = differences(run_entries(before), run_entries(now))
    return [
        *([extension_note(*longer, follows)] if longer else []),
        *([f'differs without changing the training: {abridged(harmless)}'] if harmless else []),
    ]


def training_entries(config: Mapping, free: set[str]) -> dict[str, object]:
    """Dotted entries of a config that define its training."""
    config = with_all_hooks(config)
    config['default_hooks'] = {k: h for k, h in config['default_hooks'].items() if not looks(h)}
    config['custom_hooks'] = [hook for hook in config['custom_hooks'] if not looks(hook)]
    entries = flatten({key: config[key] for key in TRAINING if config.get(key)})
    seed = 'randomness.seed'
    if entries.get(seed) is None:
        entries.pop(seed, None)
    return {key: value for key, value in entries.items() if free.isdisjoint(key.split('.'))}


def run_entries(config: Mapping) -> dict[str, object]:
    """Dotted entries of a config that a Runner reads, but for those of each start."""
    config = with_all_hooks(config)
    return flatten({key: config[key] for key in RUNNER_KEYS - START if config.get(key)})


def with_all_hooks(config: Mapping) -> dict:
    """``config`` with the hooks of every run, which older checkpoints do not state."""
    default, custom = config.get('default_hooks') or {}, config.get('custom_hooks') or []
    return {**config, 'default_hooks': complete_hooks(default, custom), 'custom_hooks': custom}


def looks(hook: dict | None) -> bool:
    """Whether a hook of a config changes nothing in the training."""
    if hook is None:
        return True
    name = str(hook.get('type')).rsplit('.', 1)[-1]
    return name in ONLY_LOOK or getattr(hook_class(hook), 'only_looks', False)


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """A line for each dotted entry that differs."""
    return [
        f'{key}: {before.get(key, "not set")!r} then, {now.get(key, "not set")!r} now'
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def abridged(lines: list[str]) -> str:
    """The first few lines, and how many more there are."""
    more = f' and {len(lines) - NAMED} more' if len(lines) > NAMED else ''
    return '; '.join(lines[:NAMED]) + more


def flatten(node: object, prefix: str = '') -> dict[str, object]:
    """Nested dicts and lists as one dict with dotted keys; types without this package's scope."""
    if isinstance(node, dict) and node:
        items = node.items()
    elif isinstance(node, list | tuple) and node:
        items = enumerate(node)
    else:
        return {prefix[:-1]: node.removeprefix('a2mim.') if isinstance(node, str) else node}
    flat = {}
    for name, item in items:
        flat |= flatten(item, f'{prefix}{name}.')
    return flat


def find_extension(before: Mapping, cfg: Config) -> tuple[str, int, int] | None:
    """Unit, old and new length of a training that is longer than the one before."""
    for key, unit in LENGTHS.items():
        old, new = ((config.get('train_cfg') or {}).get(key) for config in (before, cfg))
        if old and new and new > old:
            return unit, old, new
    return None


def extension_note(unit: str, old: int, new: int, follows: bool) -> str:
    """The line for the log of a training that is longer."""
    effect = (
        'its schedules follow the new length (--schedule follow)'
        if follows
        else 'its schedules stay as they were, and the learning rate stays at its last value after '
        'their end (--schedule keep)'
    )
    return f'the training is extended from {old} to {new} {unit}: {effect}'


def follow_length(cfg: Config, before: Mapping, record: Mapping, new: int) -> None:
    """Let the schedules that ended with the training before end with one of length ``new``."""
    for entry, was in schedules(cfg, before):
        old_end, new_end = end_of(entry, before, record), end_of(entry, before, record, new)
        if old_end is None or new_end is None:
            continue
        begin = entry.get('begin', 0)
        for name in SPANS:
            value = entry.get(name)
            # One that the config has changed by itself stays.
            unchanged = value == was.get(name)
            if value is not None and unchanged and value in (old_end, old_end - begin):
                entry[name] = value + new_end - old_end


def keep_length(cfg: Config, before: Mapping, record: Mapping) -> None:
    """Let the schedules end where those of the checkpoint do; state it in both configs.

    Raises:
        ValueError: If that is not known.
    """
    for entry, was in schedules(cfg, before):
        end = was.get('end', end_of(entry, before, record))
        if end is None:
            raise ValueError(
                f'--schedule keep: the checkpoint does not say where {entry.get("type")} ends; set '
                'its end in param_scheduler'
            )
        was['end'] = end
        entry.setdefault('end', end)


def end_of(
    entry: Mapping, before: Mapping, record: Mapping, length: int | None = None
) -> int | None:
    """Where a schedule ends with a training of ``length``, by default the one before.

    In epochs or iterations, as the schedule counts; None if that is not known.
    """
    train_cfg = before.get('train_cfg') or {}
    key = 'max_epochs' if 'max_epochs' in train_cfg else 'max_iters'
    length = train_cfg.get(key) if length is None else length
    if entry.get('by_epoch', True) == (key == 'max_epochs'):
        return length
    per_epoch = record.get('epoch_length') if key == 'max_epochs' else None
    return length * per_epoch if length and per_epoch else None


def schedules(cfg: Config, before: Mapping) -> Iterator[tuple[dict, dict]]:
    """Pairs of schedules: of this run, and of the one before."""
    now, was = (
        [part] if isinstance(part, dict) else part or []
        for part in (cfg.get('param_scheduler'), before.get('param_scheduler'))
    )
    return zip(now, was, strict=False)


def adopt_seed(cfg: Config, checkpoint: str) -> None:
    """Take the seed from the checkpoint if the config has none."""
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        seed = (peek(Path(checkpoint)).get('meta') or {}).get('seed')
        cfg.randomness = {**randomness, 'seed': seed}


@HOOKS.register_module()
class FitWeightsHook(Hook):
    """Adapt parameter names and position embeddings of a foreign checkpoint to the model.

    Before every other hook, so that all of them, and mmengine, see names that they know. A run that
    is resumed keeps its own. So does a model of another package: a detector or segmentor takes the
    backbone by ``TrunkPretrained``, and a checkpoint of all of it has its names already.
    """

    priority = 'VERY_HIGH'
    only_looks = True

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace ``checkpoint['state_dict']``.

        Raises:
            ValueError: If it is not of this model, with the name of the file and what differs. A
                training may start with another number of classes, a test may not.
        """
        if runner._resume:
            return
        model = bare_model(runner.model)
        if not isinstance(model, own_models()):
            return
        try:
            state = fit_model(checkpoint, model)
            if isinstance(runner._train_loop, BaseLoop):
                state = without_other_classes(state, model, BACKBONE)
            else:
                check_classes(state, model, BACKBONE)
        except ValueError as error:
            raise ValueError(
                f'{runner._load_from} does not fit {type(model).__name__}: {error}'
            ) from error
        checkpoint['state_dict'] = state


def own_models() -> tuple[type, ...]:
    """Classes that are registered as models of this package."""
    return tuple(kind for kind in MODELS.module_dict.values() if isinstance(kind, type))


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Record world size, batch, images and machine in ``meta['run']``; compare them on resume.

    On the same kind of machine a run resumes bit for bit. Another machine or world size is logged;
    another batch or other images are refused. Schedules of another length than in the checkpoint
    are stepped from the start.
    """

    priority = 'VERY_HIGH'
    only_looks = True

    record: dict[str, object] | None = None

    def of_run(self, runner: Runner) -> dict[str, object]:
        """The record of this run, made once for all of its checkpoints."""
        if self.record is None:
            self.record = describe(runner)
        return self.record

    def before_train(self, runner: Runner) -> None:
        """Make the record, which counts images and batches."""
        self.of_run(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the record into the checkpoint."""
        checkpoint['meta']['run'] = self.of_run(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Log how the resumed run differs from the stopped one.

        Raises:
            ValueError: If it has other images, or another batch.
        """
        if not runner._resume:
            return
        before = (checkpoint.get('meta') or {}).get('run')
        if before is None:
            runner.logger.warning(
                f'{runner._load_from} does not say on how many processes it was trained: the '
                'schedules hold only if processes, batch size and accumulation are the same now'
            )
        else:
            for note in compare_records(str(runner._load_from), before, self.of_run(runner)):
                runner.logger.warning(note)
        rates = renew_schedules(runner, checkpoint)
        if rates is not None:
            runner.logger.info(
                'the schedules have other lengths than in the checkpoint: the learning rate goes '
                f'on at {rates[1]:.4g}, where it was {rates[0]:.4g}'
            )


def compare_records(file: str, before: dict, now: dict) -> list[str]:
    """Lines for the log on how two records differ.

    Raises:
        ValueError: If they are of two trainings.
    """
    notes = [compare_plans(BatchPlan(**before['batch']), BatchPlan(**now['batch']))]
    for name, counted in (('images', 'images'), ('epoch_length', 'batches per epoch')):
        if before[name] != now[name]:
            raise ValueError(
                f'{file} was trained on {before[name]} {counted}, and there are {now[name]} now: '
                'resume with the same ones, or start a new run with --load-checkpoint'
            )
    if before['machine'] != now['machine']:
        notes.append(
            f'resumed on {now["machine"]}, stopped on {before["machine"]}: results agree, but not '
            'to the last bit'
        )
    return [note for note in notes if note]


def describe(runner: Runner) -> dict[str, object]:
    """What ``meta['run']`` says; plain numbers and strings."""
    loader = runner.train_dataloader
    return dict(
        batch=dict(
            processes=get_world_size(),
            batch_size=batch_size(loader),
            accumulation=runner.cfg.get('optim_wrapper', {}).get('accumulative_counts', 1),
        ),
        images=len(loader.dataset) if isinstance(loader.dataset, Sized) else None,
        epoch_length=len(loader),
        machine=f'torch {torch.__version__}, {_device_name()}',
    )


def _device_name() -> str:
    """Device name and thread count: what the summation order depends on."""
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f'{platform.machine()} {capability} with {threads} threads'


# What changes in a schedule while it runs; all else is its definition.
MOVING = ('last_step', '_global_step', '_last_value')


def renew_schedules(runner: Runner, checkpoint: dict) -> tuple[float, float] | None:
    """Step the schedules of ``runner`` from the start if they differ from those of ``checkpoint``.

    mmengine would load the lengths of the old ones. Their states and rates in the checkpoint are
    replaced.

    Returns:
        The learning rate before and after; None if the schedules are the same.
    """
    saved = checkpoint.get('param_schedulers')
    if not runner.param_schedulers or not saved or isinstance(saved, dict):
        return None
    own = cast(list[_ParamScheduler], runner.param_schedulers)
    if [definition(s.state_dict()) for s in own] == [definition(state) for state in saved]:
        return None
    meta, length = checkpoint['meta'], len(runner.train_dataloader)
    by_epoch = [scheduler for scheduler in own if scheduler.by_epoch]
    by_iteration = [scheduler for scheduler in own if not scheduler.by_epoch]
    with warnings.catch_warnings():
        # Of a schedule that moves before the optimiser.
        warnings.simplefilter('ignore')
        for done in range(1, meta['iter'] + 1):
            for scheduler in by_iteration:
                scheduler.step()
            if done % length == 0 and done <= meta['epoch'] * length:
                for scheduler in by_epoch:
                    scheduler.step()
    checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in own]
    groups = checkpoint['optimizer']['param_groups']
    before = groups[0]['lr']
    # Not those of the wrapper, which adds its own settings as one more.
    renewed_groups = cast(OptimWrapper, runner.optim_wrapper).optimizer.param_groups
    for group, renewed in zip(groups, renewed_groups, strict=True):
        group.update({s.param_name: renewed[s.param_name] for s in own})
    return before, groups[0]['lr']


def definition(state: Mapping[str, object]) -> dict[str, object]:
    """The constant part of a schedule's state."""
    return {name: value for name, value in state.items() if name not in MOVING}
