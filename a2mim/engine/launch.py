"""From a config and the options of a command line to a runner that is ready to train or to test.

``launch`` is the one sequence of every training: pre-training, fine-tuning and transfer. What a
command adds before it changes the config, what it adds after it checks the runner.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

from mmengine import Config
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from a2mim.engine.backbone_choice import fit_backbone
from a2mim.engine.checkpointing import checkpoint_folder
from a2mim.engine.command_line import (
    apply_train_options,
    checkpoint_file,
    config_file,
    one_line_errors,
)
from a2mim.engine.config_check import (
    check_class_count,
    check_mask_grid,
    check_names,
    check_option_names,
    check_trainable,
    check_values,
)
from a2mim.engine.config_edit import (
    LOADERS,
    apply_batch_rule,
    check_data_root,
    check_epoch_length,
    set_data_root,
    stretch_iterations,
)
from a2mim.engine.mmengine_fixes import silence_harmless_warnings, strict_loading
from a2mim.engine.pixel_scale import adopt_from_weights, adopt_scale, resolve_scale
from a2mim.engine.precision import adopt_matmul, state_matmul
from a2mim.engine.preflight import PreflightHook
from a2mim.engine.processes import (
    WorkDirLock,
    count_processes,
    fit_workers,
    is_first_process,
    join_processes,
    leave_processes,
)
from a2mim.engine.progress import ProgressHook
from a2mim.engine.resume import adopt_seed, check_config, find_checkpoint, refuse_foreign
from a2mim.engine.run_page import RunPageHook
from a2mim.engine.runner import ToolRunner, config_copy
from a2mim.engine.sharding import check_sharding
from a2mim.engine.validation import name_sets, test_every_set
from a2mim.options import SHIPPED
from a2mim.weights.config_files import read_config
from a2mim.weights.files import write_atomically
from a2mim.weights.safe_load import reading

ROOM = 1 << 18  # bytes of log and scalars before the first step


class FirstIteration(Hook):
    """Remember whether an iteration of training has been completed."""

    done = False

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Training works; what fails from here on is not the input's fault."""
        self.done = True


def train(args: argparse.Namespace, *hooks: Hook) -> None:
    """Train what a command line describes, with more ``hooks``; errors are one line."""
    training = FirstIteration()
    lines, trust = one_line_errors(training), reading(args)
    with lines, strict_loading(), trust, WorkDirLock() as lock:
        runner = build_train_runner(args, lock)
        for hook in (training, *hooks):
            runner.register_hook(hook)
        runner.train()
        del runner
    leave_processes()


def build_train_runner(args: argparse.Namespace, lock: WorkDirLock) -> Runner:
    """Build the runner of a pre-training or fine-tuning after all checks.

    Raises:
        ValueError: With what is wrong, and what to do; see the modules beside this one.
    """
    count_processes(args.launcher)  # before mmengine's log reads the local rank
    cfg = load_config(args)
    check_trainable(cfg)
    check_data_root(cfg, LOADERS[:2])
    notes = fit_backbone(cfg)
    apply_train_options(cfg, args)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args.config)
    runner = launch(cfg, args, lock, cfg.get('experiment_name') or Path(args.config).stem)
    for note in notes:
        runner.logger.info(note)
    check_epoch_length(runner, scaled=args.auto_scale_lr)
    check_mask_grid(runner)
    check_class_count(runner)
    check_sharding(runner)
    if args.preflight:
        runner.register_hook(PreflightHook())
    return runner


def launch(
    cfg: Config,
    args: argparse.Namespace,
    lock: WorkDirLock,
    name: str,
    edit_data: Callable[[Config], str | None] = lambda _: None,
) -> ToolRunner:
    """Apply the batch rule, lock the work dir, choose the checkpoint, and build the runner.

    Args:
        cfg: Of the training, with ``work_dir``; changed in place.
        args: ``launcher``, ``resume`` and ``schedule`` of the command line.
        lock: Holds the work dir until the training ends.
        name: Of the run, in its logs.
        edit_data: Edits the training data of ``cfg`` after the options; returns a line for the log.

    Raises:
        ValueError: If the batch cannot be reached, another run has the work dir, or the checkpoint
            belongs to another training.
    """
    processes = count_processes(args.launcher)
    accumulation = cfg.optim_wrapper.get('accumulative_counts', 1)
    notes = [apply_batch_rule(cfg, processes), stretch_iterations(cfg, accumulation)]
    notes += [fit_workers(cfg, processes, args.cfg_options), edit_data(cfg)]
    folder = folder_of_run(cfg)
    if is_first_process(args.launcher):
        notes.append(lock.take(cfg.work_dir))
        notes += [lock.take(str(folder))] if folder != Path(cfg.work_dir) else []
    notes += choose_start(cfg, args.resume, args.schedule, folder)
    if is_first_process(args.launcher):
        write_config(cfg)
    join_processes(cfg, args.launcher)
    notes += [*resolve_scale(cfg), state_matmul(cfg)]
    name_run(cfg, name)
    runner = cast(ToolRunner, ToolRunner.from_cfg(cfg))
    share_start(runner)
    runner.register_hook(RunPageHook())
    runner.register_hook(ProgressHook())
    for note in filter(None, notes):
        runner.logger.info(note)
    return runner


def build_test_runner(args: argparse.Namespace) -> Runner:
    """The runner that evaluates ``args.checkpoint`` on the test data, or the validation data.

    Raises:
        FileNotFoundError: If the checkpoint is missing.
        ValueError: If the config evaluates nothing.
    """
    count_processes(args.launcher)
    cfg = load_config(args)
    source = 'test' if cfg.get('test_dataloader') else 'val'
    for part in ('dataloader', 'evaluator'):
        if not cfg.get(f'{source}_{part}'):
            raise ValueError(f'{args.config} evaluates nothing: it has no {source}_{part}')
        cfg[f'test_{part}'] = cfg[f'{source}_{part}']
    test_every_set(cfg, source)
    check_data_root(cfg, LOADERS[2:])
    fit_backbone(cfg)
    return launch_test(cfg, args)


def launch_test(cfg: Config, args: argparse.Namespace) -> ToolRunner:
    """Build the runner of an evaluation of ``args.checkpoint``.

    Raises:
        FileNotFoundError: If the checkpoint is missing.
    """
    cfg.load_from = checkpoint_file(args.checkpoint, 'checkpoint')
    adopt_scale(cfg, cfg.load_from)
    # Below the folder of the run, whose own config must stay what was trained.
    cfg.work_dir = args.work_dir or str(Path(cfg.load_from).parent / 'test')
    fit_workers(cfg, count_processes(args.launcher), args.cfg_options)
    join_processes(cfg, args.launcher)
    note = state_matmul(cfg)
    name_run(cfg, f'{Path(args.config).stem}_test')
    runner = cast(ToolRunner, ToolRunner.from_cfg(cfg))
    if note:
        runner.logger.info(note)
    return runner


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the options that every tool has."""
    silence_harmless_warnings()
    cfg = read_config(config_file(args.config))
    if cfg.setdefault('default_scope', 'a2mim') == 'mmpretrain':
        raise ValueError(
            f'{args.config} is for MMPretrain (docs/mmpretrain.md): run '
            f'mim train onedl-mmpretrain {args.config}'
        )
    check_option_names(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    if cfg.get('visualizer'):
        cfg.visualizer.setdefault('type', 'Visualizer')
    check_names(cfg)
    check_values(cfg)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    name_sets(cfg)
    return cfg


def default_work_dir(config: str) -> str:
    """``configs/a/b.py`` trains in ``work_dirs/a/b``, any other ``b.py`` in ``work_dirs/b``.

    Beside ``configs``; those of an installed package, as openmim names them, in the current folder.
    """
    path = Path(config).with_suffix('')
    parts = list(path.parts)
    if 'configs' not in parts:
        return str(Path('work_dirs') / path.name)
    last = len(parts) - 1 - parts[::-1].index('configs')
    above = [] if parts[last - 1 : last] == [SHIPPED.name] else parts[:last]
    return str(Path(*above, 'work_dirs', *parts[last + 1 :]))


def write_config(cfg: Config) -> None:
    """Write the config to the work dir, where mmengine writes it too, but names no full disk.

    Raises:
        NotWrittenError: If there is no room for it and the first lines of the log.
    """
    text = cfg.pretty_text.encode()
    path = config_copy(cfg)
    advice = 'Make room, or give another --work-dir'
    write_atomically(path, lambda file: file.write(text), len(text) + ROOM, advice)


def folder_of_run(cfg: Config) -> Path:
    """The folder of the checkpoints that ``cfg`` asks for."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    out_dirs = [hook['out_dir'] for hook in hooks if isinstance(hook, dict) and 'out_dir' in hook]
    return checkpoint_folder(next(iter(out_dirs), None), cfg.work_dir)


def refuse_used_work_dir(work_dir: str | Path) -> None:
    """Refuse a work dir, or a folder of checkpoints, that already holds checkpoints.

    Raises:
        ValueError: If there are checkpoints in ``work_dir``.
    """
    checkpoints = sorted(path.name for path in Path(work_dir).glob('*.pth'))
    if checkpoints:
        raise ValueError(
            f'{work_dir} holds the checkpoints of a run ({", ".join(checkpoints[:3])}); continue '
            'it with --resume auto, or give the new run another --work-dir'
        )


def choose_start(cfg: Config, resume: str | None, schedule: str | None, folder: Path) -> list[str]:
    """Resume a run whose checkpoints go to ``folder`` or start one; return lines for the log.

    Raises:
        FileNotFoundError: If there is no checkpoint of the name to resume from.
        ValueError: If the folder or the checkpoint belongs to another run, or a new one is given
            ``schedule``.
    """
    if resume is None:
        if schedule is not None:
            raise ValueError(f'--schedule {schedule} is about a run that is resumed: add --resume')
        refuse_used_work_dir(cfg.work_dir)
        refuse_used_work_dir(folder)
        return adopt_from_weights(cfg)
    checkpoint, skipped = find_checkpoint(resume, cfg.work_dir, folder)
    if checkpoint is None:
        return [f'nothing to resume in {folder}: training starts from scratch']
    found_in = Path(checkpoint).resolve().parent
    if found_in != folder.resolve():
        refuse_used_work_dir(folder)
    if resume == 'auto' and found_in != Path(cfg.work_dir).resolve():
        refuse_foreign(checkpoint, cfg.work_dir)
    notes = adopt_scale(cfg, checkpoint)
    adopt_matmul(cfg, checkpoint)
    notes += check_config(cfg, checkpoint, schedule)
    adopt_seed(cfg, checkpoint)
    cfg.resume, cfg.load_from = True, checkpoint
    return [*skipped, f'resuming from {checkpoint}', *notes]


def share_start(runner: Runner) -> None:
    """Broadcast the checkpoint that the first process resumes or loads.

    Each looks for itself. A process that comes before the last checkpoint of a run that is just
    ending, or on a machine where the work dir is another folder, would find another file or none,
    and train other weights than the first one.
    """
    start = [runner._resume, whole_path(runner._load_from)]
    broadcast_object_list(start)
    runner._resume, runner._load_from = start


def whole_path(file: str | None) -> str | None:
    """``file`` as every process finds it, whatever folder it was started in; URLs stay."""
    return str(Path(file).absolute()) if file and Path(file).is_file() else file


def name_run(cfg: Config, name: str) -> None:
    """Set an experiment name that is unique in this process."""
    cfg.experiment_name = unique_name(name)
    # Under the fixed name of MMDetection and MMSegmentation a second run of this process would
    # write its curves into the folder of the first.
    if 'name' in (cfg.get('visualizer') or {}):
        cfg.visualizer.name = cfg.experiment_name


def unique_name(name: str) -> str:
    """Return ``name``, suffixed with ``_runN`` if this process already used it.

    mmengine keeps loggers and curves by name and second, for as long as the process lives.
    """
    pattern = re.compile(rf'{re.escape(name)}(_run\d+)?_\d{{8}}_\d{{6}}')  # name, date, time
    known = {*DefaultScope._instance_dict, *MMLogger._instance_dict}
    taken = sum(bool(pattern.fullmatch(one)) for one in known)
    return f'{name}_run{taken + 1}' if taken else name
