"""From the command line of a transfer to a runner: PRETRAIN, the batch, and what cannot work.

    options     CONFIG PRETRAIN [KEY=VALUE ...] as the published scripts take them
    builders    a runner that is ready to train or to test; wrong input is a ValueError

Within ``one_line_errors`` and ``strict_loading``, like the tools for classification.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine import Config, DictAction
from mmengine.runner import Runner

from a2mim.engine.command_line import existing_file
from a2mim.engine.config_check import check_option_names
from a2mim.engine.config_edit import apply_batch_rule, check_epoch_length
from a2mim.engine.launch import choose_start, default_work_dir, free_name, share_start
from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.processes import (
    LAUNCHERS,
    WorkDirLock,
    count_processes,
    fit_workers,
    is_first_process,
    join_processes,
)
from a2mim.transfer.data_folders import check_data_folders
from a2mim.transfer.iterations import stretch_iterations
from a2mim.transfer.pretrain import FROM_SCRATCH, check_shared_head, set_pretrain
from a2mim.transfer.runner import TransferRunner


def parse_train_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of a training."""
    parser = argparse.ArgumentParser(prog='python -m a2mim.transfer.train')
    parser.add_argument('config', help='config of MMDetection or MMSegmentation')
    parser.add_argument(
        'pretrain', help=f'weights of the trunk, or "{FROM_SCRATCH}" to train from scratch'
    )
    _add_common_options(parser)
    parser.add_argument(
        '--resume', action='store_true', help='continue the run in the work dir, if there is one'
    )
    parser.add_argument(
        '--shared-head', action='store_true', help='the detector must have a C4 head'
    )
    return parser.parse_intermixed_args(argv)


def parse_test_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of an evaluation."""
    parser = argparse.ArgumentParser(prog='python -m a2mim.transfer.test')
    parser.add_argument('config', help='config of MMDetection or MMSegmentation')
    parser.add_argument('checkpoint', help='checkpoint of the whole model')
    _add_common_options(parser)
    return parser.parse_intermixed_args(argv)


def build_train_runner(args: argparse.Namespace, lock: WorkDirLock) -> Runner:
    """Check everything that can be checked, take the work dir, and build the runner.

    Raises:
        FileNotFoundError: If the config, PRETRAIN or the images are missing.
        ImportError: If MMDetection or MMSegmentation is not installed.
        ValueError: With what is wrong, and what to do.
    """
    cfg = _load_config(args)
    if args.shared_head:
        check_shared_head(cfg)
    if args.pretrain != FROM_SCRATCH:
        existing_file(args.pretrain, 'PRETRAIN')
    set_pretrain(cfg, args.pretrain)
    # The published rule: a folder for each PRETRAIN.
    own = Path(default_work_dir(args.config)) / Path(args.pretrain).name
    cfg.work_dir = args.work_dir or str(own)
    processes = count_processes(args.launcher)
    accumulation = cfg.optim_wrapper.get('accumulative_counts', 1)
    notes = [apply_batch_rule(cfg, processes), stretch_iterations(cfg, accumulation)]
    notes.append(fit_workers(cfg, processes))
    if is_first_process(args.launcher):
        notes.append(lock.take(cfg.work_dir))
    notes += choose_start(cfg, 'auto' if args.resume else None)
    join_processes(cfg, args.launcher)
    _name_run(cfg, Path(args.config).stem)
    runner = TransferRunner.from_cfg(cfg)
    share_start(runner)
    for note in filter(None, notes):
        runner.logger.info(note)
    check_epoch_length(runner)
    return runner


def build_test_runner(args: argparse.Namespace) -> Runner:
    """The runner that evaluates ``args.checkpoint``, all of which must fit the model.

    Raises:
        FileNotFoundError: If the config, the checkpoint or the images are missing.
        ImportError: If MMDetection or MMSegmentation is not installed.
    """
    cfg = _load_config(args)
    cfg.load_from = existing_file(args.checkpoint, 'checkpoint')
    check_data_folders(cfg, ('test',))
    # Below the folder of the run, whose own config must stay what was trained.
    cfg.work_dir = args.work_dir or str(Path(args.checkpoint).parent / 'test')
    _name_run(cfg, f'{Path(args.config).stem}_test')
    fit_workers(cfg, count_processes(args.launcher))
    join_processes(cfg, args.launcher)
    return TransferRunner.from_cfg(cfg)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'options',
        nargs='*',
        type=_key_value,
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change entries of the config, for example train_dataloader.batch_size=4',
    )
    parser.add_argument('--work-dir', '--work_dir', metavar='DIR', help='logs and checkpoints')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')


def _key_value(text: str) -> str:
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'{text!r} must be KEY=VALUE')
    return text


def _load_config(args: argparse.Namespace) -> Config:
    silence_harmless_warnings()
    file = existing_file(args.config, 'config')
    try:
        cfg = Config.fromfile(file)
    except ImportError as error:
        raise ImportError(
            f'{file}: {error}; install MMDetection with pip install -e ".[det]", MMSegmentation '
            'with pip install -e ".[seg]"'
        ) from error
    check_option_names(cfg, args.options)
    cfg.merge_from_dict(args.options)
    cfg.randomness = {'seed': 0, **cfg.get('randomness', {})}
    return cfg


def _name_run(cfg: Config, name: str) -> None:
    cfg.experiment_name = free_name(name)
    if cfg.get('visualizer'):
        # Under the one name in their configs, a second run of this process would write its curves
        # into the folder of the first.
        cfg.visualizer.name = cfg.experiment_name
