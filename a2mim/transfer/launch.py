"""From the command line of a transfer to a runner: PRETRAIN, the batch, and what cannot work.

    options     CONFIG PRETRAIN [KEY=VALUE ...] as the published scripts take them
    builders    a runner that is ready to train or to test; wrong input is a ValueError

Within ``one_line_errors`` and ``strict_loading``, like the tools for classification.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from mmengine import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import BaseLoop, Runner
from torch import nn

from a2mim.engine.checkpointing import CheckpointHook
from a2mim.engine.command_line import existing_file
from a2mim.engine.config_check import check_option_names
from a2mim.engine.config_edit import apply_batch_rule, check_epoch_length
from a2mim.engine.launch import choose_start, default_work_dir, free_name, share_start
from a2mim.engine.mmengine_fixes import filter_log, silence_harmless_warnings
from a2mim.engine.processes import (
    LAUNCHERS,
    WorkDirLock,
    count_processes,
    fit_workers,
    is_first_process,
    join_processes,
)

# [data_folders]
# The folders of a detection or segmentation data set, looked for before anything is built.


def check_data_folders(cfg: Config, splits: Iterable[str]) -> None:
    """Find every ``data_root`` that the loaders of ``splits`` name, wrapped data sets included.

    Args:
        cfg: With ``train_dataloader``, ``val_dataloader`` and so on, where there are such.
        splits: Among 'train', 'val' and 'test'.

    Raises:
        FileNotFoundError: If one is no folder.
    """
    for split in splits:
        name, dataset = f'{split}_dataloader', (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        while dataset is not None:
            name += '.dataset'
            root = dataset.get('data_root')
            if root and not Path(root).is_dir():
                raise FileNotFoundError(
                    f'{name}.data_root={root}: there is no such folder; put the images there, or '
                    f'add {name}.data_root=DIR'
                )
            dataset = dataset.get('dataset')


# [runner]
# The runner of detectors and segmentors: weights before data, and batch norm on a CPU.


class TransferRunner(Runner):
    """mmengine's Runner, with four differences.

    It
    - takes the weights of the trunk, and looks for the folders of the data, before it reads any,
      so that a wrong file is refused within seconds;
    - trains batch norm per process on a CPU: torch synchronises it between GPUs only;
    - completes a checkpoint that was begun, whatever ends the run;
    - keeps out of the log what no person reads.
    """

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        """Build the logger as mmengine does, without what no person reads."""
        logger = super().build_logger(*args, **kwargs)
        filter_log(logger)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes."""
        if not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Initialise the weights, then look for the data, then read them.

        Raises:
            FileNotFoundError: If a folder of the data is missing.
        """
        if not isinstance(loop, BaseLoop):
            super()._init_model_weights()
            check_data_folders(self.cfg, ('train', 'val'))
        return super().build_train_loop(loop)

    def train(self) -> nn.Module:
        """Train as mmengine does, and see to a checkpoint that is being written."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                if isinstance(hook, CheckpointHook):
                    hook.finish(self)

    def _init_model_weights(self) -> None:
        """Done by then."""


# [iterations]
# Schedules in iterations, where one optimiser step takes several of them.


SPANS = ('begin', 'end')


def stretch_iterations(cfg: Config, before: int) -> str | None:
    """Let a schedule in iterations see the images it is meant for; return a line for the log.

    mmengine counts iterations, of which an optimiser step accumulates several where there are too
    few processes. The length of the training, the distance of evaluations and checkpoints, and the
    spans of the learning rate then grow by as much.

    Args:
        cfg: Config whose batch is fitted to the processes, changed in place.
        before: Iterations per optimiser step that its schedule is meant for.
    """
    after = cfg.optim_wrapper.get('accumulative_counts', 1)
    if after == before or 'max_iters' not in cfg.train_cfg:
        return None
    checkpoint = cfg.get('default_hooks', {}).get('checkpoint', {})
    parts = [(cfg.train_cfg, ('max_iters', 'val_interval')), (checkpoint, ('interval',))]
    schedulers = cfg.get('param_scheduler') or []
    parts += [(item, SPANS) for item in schedulers if not item.get('by_epoch', True)]
    for part, names in parts:
        for name in names:
            if name in part:
                part[name] = part[name] * after // before
    return (
        f'{after} iterations make one optimiser step, in place of {before}: the schedule takes '
        f'{cfg.train_cfg.max_iters} iterations'
    )


# [pretrain]
# PRETRAIN of a command line, in every place of a model that takes weights of a trunk.


INITIALIZER = 'a2mim.TrunkPretrained'
FROM_SCRATCH = 'none'


def set_pretrain(cfg: Config, pretrain: str) -> None:
    """Let every part of ``cfg.model`` that takes weights of a trunk take them from ``pretrain``.

    Those parts have ``init_cfg=dict(type='a2mim.TrunkPretrained', ...)`` in the config.

    Args:
        cfg: Config of MMDetection or MMSegmentation, changed in place.
        pretrain: A file, or ``'none'`` to train from scratch.

    Raises:
        ValueError: If no part takes weights.
    """
    parts = [*trunk_parts(cfg.model)]
    if not parts:
        raise ValueError(
            f'no part of the model takes weights from PRETRAIN={pretrain}: give its backbone '
            f"init_cfg=dict(type='{INITIALIZER}', checkpoint='PRETRAIN')"
        )
    for part in parts:
        if pretrain == FROM_SCRATCH:
            part['init_cfg'] = None
        else:
            part['init_cfg']['checkpoint'] = pretrain


def check_shared_head(cfg: Config) -> None:
    """Refuse a detector without a shared head that takes weights: it is no C4 detector.

    Raises:
        ValueError: If so.
    """
    head = cfg.model.get('roi_head', {}).get('shared_head', {})
    if not any(part is head for part in trunk_parts(cfg.model)):
        raise ValueError(
            f'{cfg.filename} has no model.roi_head.shared_head that takes weights; start it with '
            'mim_dist_train.sh'
        )


def trunk_parts(node: object) -> Iterator[dict]:
    """Every config below ``node`` with weights of a trunk as its ``init_cfg``."""
    if isinstance(node, dict):
        init = node.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == INITIALIZER:
            yield node
        children = node.values()
    else:
        children = node if isinstance(node, list | tuple) else ()
    for child in children:
        yield from trunk_parts(child)


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
