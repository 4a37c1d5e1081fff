"""From options to a runner that is ready to train or to test."""

import argparse
import re
from pathlib import Path

from mmengine import Config
from mmengine.dist import broadcast_object_list
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from a2mim.engine.checkpointing import newest_checkpoint
from a2mim.engine.command_line import apply_train_options, existing_file
from a2mim.engine.config_check import (
    RUNNER_KEYS,
    check_class_count,
    check_mask_grid,
    check_names,
    check_option_names,
)
from a2mim.engine.config_edit import apply_batch_rule, check_epoch_length, set_data_root
from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.preflight import PreflightHook
from a2mim.engine.processes import (
    WorkDirLock,
    count_processes,
    fit_workers,
    is_first_process,
    join_processes,
)
from a2mim.engine.runner import ToolRunner
from a2mim.engine.sharding import check_sharding
from a2mim.weights.recipe import literal_config
from a2mim.weights.safe_load import load_file

# [common_start]
# All processes of a run start from the same checkpoint: the one that the first process found.


def share_start(runner: Runner) -> None:
    """Give every process what the first one resumes or loads.

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


# [work_dir]
# The folder of a run: where it is, and that it does not hold another run already.


def default_work_dir(config: str) -> str:
    """``configs/a/b.py`` trains in ``work_dirs/a/b``, any other ``b.py`` in ``work_dirs/b``."""
    path = Path(config).with_suffix('')
    parts = list(path.parts)
    if 'configs' not in parts:
        return str(Path('work_dirs') / path.name)
    last = len(parts) - 1 - parts[::-1].index('configs')
    parts[last] = 'work_dirs'
    return str(Path(*parts))


def refuse_used_work_dir(work_dir: str) -> None:
    """Keep a new run out of a folder that holds the checkpoints of another.

    Raises:
        ValueError: If there are checkpoints in ``work_dir``.
    """
    checkpoints = sorted(path.name for path in Path(work_dir).glob('*.pth'))
    if checkpoints:
        raise ValueError(
            f'{work_dir} holds the checkpoints of a run ({", ".join(checkpoints[:3])}); continue '
            'it with --resume auto, or give the new run another --work-dir'
        )


# [resume]
# ``--resume``: find the checkpoint, and continue only the experiment that wrote it.


# What may differ between the parts of one run: where things are, what is shown and kept, how the
# work is spread over processors, and initial weights, which the checkpoint replaces. The batch per
# process and the accumulation belong to a number of processes: the checkpoint itself has all three.
HARMLESS = re.compile(
    r'(work_dir|resume|load_from|launcher|log_level|log_processor|experiment_name|visualizer|'
    r'env_cfg|sync_bn|model_wrapper_cfg|find_unused_parameters|compile|val_\w+|test_\w+|'
    r'train_cfg\.val_\w+|default_hooks\.(logger|checkpoint|timer|bad_images)|'
    r'model\.backbone\.init_cfg|'
    r'train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor|batch_size)|'
    r'optim_wrapper\.accumulative_counts)(\.|$)'
    r'|.*\.(root|list_file|on_bad_image|grad_checkpointing)$'
)


def find_checkpoint(resume: str, work_dir: str) -> tuple[str | None, list[str]]:
    """The file to resume from, and a line for each newer one that is not whole.

    No file if ``resume`` is ``'auto'`` and nothing was saved yet.

    Raises:
        FileNotFoundError: If a named file is missing.
        ValueError: If there are checkpoints, and no run can go on from any of them.
    """
    if resume != 'auto':
        if not Path(resume).is_file():
            raise FileNotFoundError(f'--resume {resume}: there is no such file')
        return resume, []
    newest, skipped = newest_checkpoint(Path(work_dir))
    if newest is not None:
        return str(newest), skipped
    found = sorted(path.name for path in Path(work_dir).glob('*.pth'))
    if found:
        reasons = '; '.join(skipped) or f'{", ".join(found[:3])} hold no state to go on from'
        raise ValueError(
            f'{work_dir} has no checkpoint to resume from: {reasons}. Put back a whole copy, or '
            'start anew in another --work-dir'
        )
    return None, []


def check_same_experiment(cfg: Config, checkpoint: str) -> None:
    """Compare ``cfg`` with the config that lies beside ``checkpoint``.

    Raises:
        ValueError: If an entry differs that changes the training.
    """
    files = sorted(Path(checkpoint).parent.glob('*.py'), key=lambda path: path.stat().st_mtime)
    contents = {path: literal_config(path.read_text()) for path in files}
    # A config that inherits was written by a person.
    written = [path for path, found in contents.items() if found and '_base_' not in found]
    if not written:
        return
    before = flatten(contents[written[-1]])
    # Through the same text form, so that both have the same types.
    now = flatten(literal_config(cfg.pretty_text))
    differing = [
        f'{key}: {before.get(key, "not set")!r} then, {now.get(key, "not set")!r} now'
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and key.split('.')[0] in RUNNER_KEYS
        and not HARMLESS.match(key)
        # Where none is given, one is drawn, and found again in the checkpoint.
        and not (key == 'randomness.seed' and None in (before.get(key), now.get(key)))
    ]
    if differing:
        more = f' and {len(differing) - 4} more' if len(differing) > 4 else ''
        raise ValueError(
            f'{checkpoint} was trained with another config ({"; ".join(differing[:4])}{more}); '
            f'resume with {written[-1]}, or start a new run in another --work-dir with '
            '--load-checkpoint'
        )


def adopt_seed(cfg: Config, checkpoint: str) -> None:
    """Let a run whose config has no seed go on with the one that was drawn when it started."""
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        seed = (load_file(checkpoint).get('meta') or {}).get('seed')
        cfg.randomness = {**randomness, 'seed': seed}


def flatten(node: object, prefix: str = '') -> dict[str, object]:
    """Nested dicts and lists as one dict with dotted keys."""
    if isinstance(node, dict) and node:
        items = node.items()
    elif isinstance(node, list | tuple) and node:
        items = enumerate(node)
    else:
        return {prefix[:-1]: node}
    flat = {}
    for name, item in items:
        flat |= flatten(item, f'{prefix}{name}.')
    return flat


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
