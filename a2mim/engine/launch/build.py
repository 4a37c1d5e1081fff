"""From options to a runner that is ready to train or to test."""

import argparse
import re
from pathlib import Path

from mmengine import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from a2mim.engine.compat.quiet import silence_harmless_warnings
from a2mim.engine.launch.batch import apply_batch_rule, check_epoch_length
from a2mim.engine.launch.class_count import check_class_count
from a2mim.engine.launch.common_start import share_start
from a2mim.engine.launch.data_root import set_data_root
from a2mim.engine.launch.lock import WorkDirLock
from a2mim.engine.launch.mask_grid import check_mask_grid
from a2mim.engine.launch.names import check_names, check_option_names
from a2mim.engine.launch.options import apply_train_options, existing_file
from a2mim.engine.launch.processes import (
    count_processes,
    fit_workers,
    is_first_process,
    join_processes,
)
from a2mim.engine.launch.resume import adopt_seed, check_same_experiment, find_checkpoint
from a2mim.engine.launch.work_dir import default_work_dir, refuse_used_work_dir
from a2mim.engine.preflight import PreflightHook
from a2mim.engine.runner import ToolRunner
from a2mim.engine.sharding import check_sharding


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the options that every tool has."""
    silence_harmless_warnings()
    cfg = Config.fromfile(existing_file(args.config, 'config'))
    cfg.setdefault('default_scope', 'a2mim')
    check_option_names(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    check_names(cfg)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    return cfg


def build_train_runner(args: argparse.Namespace, lock: WorkDirLock) -> Runner:
    """Check everything that can be checked, take the work dir, and build the runner.

    Raises:
        ValueError: With what is wrong, and what to do; see the modules beside this one.
    """
    cfg = load_config(args)
    apply_train_options(cfg, args)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or default_work_dir(args.config)
    processes = count_processes(args.launcher)
    notes = [apply_batch_rule(cfg, processes), fit_workers(cfg, processes)]
    if is_first_process(args.launcher):
        notes.append(lock.take(cfg.work_dir))
    notes += choose_start(cfg, args.resume)
    join_processes(cfg, args.launcher)
    cfg.experiment_name = free_name(cfg.get('experiment_name') or Path(args.config).stem)
    runner = ToolRunner.from_cfg(cfg)
    share_start(runner)
    for note in filter(None, notes):
        runner.logger.info(note)
    check_epoch_length(runner)
    check_mask_grid(runner)
    check_class_count(runner)
    check_sharding(runner)
    if args.preflight:
        runner.register_hook(PreflightHook())
    return runner


def free_name(name: str) -> str:
    """``name``, with a number behind it if this process has had a run of that name.

    mmengine keeps loggers and curves by name and second, for as long as the process lives.
    """
    pattern = re.compile(rf'{re.escape(name)}(_run\d+)?_\d{{8}}_\d{{6}}')  # name, date, time
    known = {*DefaultScope._instance_dict, *MMLogger._instance_dict}
    taken = sum(bool(pattern.fullmatch(one)) for one in known)
    return f'{name}_run{taken + 1}' if taken else name


def choose_start(cfg: Config, resume: str | None) -> list[str]:
    """Continue a run or start one, and never mix two in one folder; return lines for the log.

    Raises:
        FileNotFoundError: If there is no checkpoint of the name to resume from.
        ValueError: If the folder or the checkpoint belongs to another run.
    """
    if resume is None:
        refuse_used_work_dir(cfg.work_dir)
        return []
    checkpoint, skipped = find_checkpoint(resume, cfg.work_dir)
    if checkpoint is None:
        return [f'nothing to resume in {cfg.work_dir}: training starts from scratch']
    if Path(checkpoint).resolve().parent != Path(cfg.work_dir).resolve():
        refuse_used_work_dir(cfg.work_dir)
    check_same_experiment(cfg, checkpoint)
    adopt_seed(cfg, checkpoint)
    cfg.resume, cfg.load_from = True, checkpoint
    return [*skipped, f'resuming from {checkpoint}']


def build_test_runner(args: argparse.Namespace) -> Runner:
    """The runner that evaluates ``args.checkpoint`` on the test data, or the validation data.

    Raises:
        FileNotFoundError: If the checkpoint is missing.
        ValueError: If the config evaluates nothing.
    """
    cfg = load_config(args)
    cfg.load_from = existing_file(args.checkpoint, 'checkpoint')
    # Below the folder of the run, whose own config must stay what was trained.
    cfg.work_dir = args.work_dir or str(Path(args.checkpoint).parent / 'test')
    cfg.experiment_name = free_name(f'{Path(args.config).stem}_test')
    source = 'test' if cfg.get('test_dataloader') else 'val'
    for part in ('dataloader', 'evaluator'):
        if not cfg.get(f'{source}_{part}'):
            raise ValueError(f'{args.config} evaluates nothing: it has no {source}_{part}')
        cfg[f'test_{part}'] = cfg[f'{source}_{part}']
    cfg.test_cfg = cfg.get('test_cfg') or {}
    fit_workers(cfg, count_processes(args.launcher))
    join_processes(cfg, args.launcher)
    return ToolRunner.from_cfg(cfg)
