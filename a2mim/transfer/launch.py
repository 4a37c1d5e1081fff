"""The command lines of a transfer: weights of a backbone in a detector or segmentor.

    python -m a2mim.transfer.train CONFIG PRETRAIN [KEY=VALUE ...] [options]
    python -m a2mim.transfer.test CONFIG CHECKPOINT [KEY=VALUE ...] [options]

Both run within ``one_line_errors`` and ``strict_loading``, like the tools for classification.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine import Config
from mmengine.runner import Runner

from a2mim.engine.command_line import add_schedule_option, existing_file
from a2mim.engine.config_check import check_option_names, check_values
from a2mim.engine.config_edit import check_epoch_length
from a2mim.engine.config_options import ConfigOptions
from a2mim.engine.launch import default_work_dir, launch, launch_test
from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.processes import WorkDirLock
from a2mim.options import LAUNCHERS
from a2mim.transfer.data import prepare_data
from a2mim.transfer.data_check import check_data, check_data_folders, list_single_classes
from a2mim.weights.config_files import read_config

INITIALIZER = 'a2mim.TrunkPretrained'
FROM_SCRATCH = 'none'
# Classes of this package that mmengine has under the same name, and a run needs in any scope: their
# updates can be guarded, their checkpoints are complete or absent, their log values do not wait.
WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper')
OWN_HOOKS = {
    'runtime_info': dict(type='RuntimeInfoHook'),
    'checkpoint': dict(type='CheckpointHook', interval=1),
}


def parse_train_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of a training."""
    parser = argparse.ArgumentParser(prog='python -m a2mim.transfer.train')
    parser.add_argument('config', help='config of MMDetection or MMSegmentation')
    parser.add_argument(
        'pretrain', help=f'weights of the backbone, or "{FROM_SCRATCH}" to train from scratch'
    )
    _add_common_options(parser)
    parser.add_argument(
        '--resume',
        action='store_const',
        const='auto',
        help='continue the run in the work dir, if there is one',
    )
    add_schedule_option(parser)
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
    """The runner of a transfer, checked before any work can be lost.

    The weights are taken, and the folders of the data looked for, before any image is read: a wrong
    file is refused within seconds.

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
    use_own_parts(cfg)
    # The published rule: a folder for each PRETRAIN.
    own = Path(default_work_dir(args.config)) / Path(args.pretrain).name
    cfg.work_dir = args.work_dir or str(own)
    runner = launch(cfg, args, lock, Path(args.config).stem, prepare_data)
    runner.init_weights()
    check_data_folders(cfg, ('train', 'val'))
    check_data(cfg, ('train', 'val'))
    check_epoch_length(runner)
    return runner


def build_test_runner(args: argparse.Namespace) -> Runner:
    """The runner that evaluates ``args.checkpoint``, all of which must fit the model.

    Raises:
        FileNotFoundError: If the config, the checkpoint or the images are missing.
        ImportError: If MMDetection or MMSegmentation is not installed.
    """
    cfg = _load_config(args)
    existing_file(args.checkpoint, 'checkpoint')
    check_data_folders(cfg, ('test',))
    runner = launch_test(cfg, args)
    check_data(cfg, ('test',))
    return runner


def use_own_parts(cfg: Config) -> None:
    """Name the scope of this package in the types of ``WRAPPERS`` and ``OWN_HOOKS``."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind in WRAPPERS:
        cfg.optim_wrapper.type = f'a2mim.{kind}'
    hooks = cfg.setdefault('default_hooks', {})
    for key, default in OWN_HOOKS.items():
        hook = hooks.get(key, default)
        if hook is not None and hook['type'] == default['type']:
            hooks[key] = {**hook, 'type': f'a2mim.{hook["type"]}'}


def set_pretrain(cfg: Config, pretrain: str) -> None:
    """Let every part of ``cfg.model`` that takes weights of a backbone take them from ``pretrain``.

    Those parts have ``init_cfg=dict(type='a2mim.TrunkPretrained', ...)`` in the config.

    Args:
        cfg: Config of MMDetection or MMSegmentation, changed in place.
        pretrain: A file, or ``'none'`` to train from scratch.

    Raises:
        ValueError: If no part takes weights.
    """
    parts = [*backbone_parts(cfg.model)]
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
    if not any(part is head for part in backbone_parts(cfg.model)):
        raise ValueError(
            f'{cfg.filename} has no model.roi_head.shared_head that takes weights; start it with '
            'mim_dist_train.sh'
        )


def backbone_parts(node: object) -> Iterator[dict]:
    """Every config below ``node`` that takes weights of a backbone as its ``init_cfg``."""
    if isinstance(node, dict):
        init = node.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == INITIALIZER:
            yield node
        children = node.values()
    else:
        children = node if isinstance(node, list | tuple) else ()
    for child in children:
        yield from backbone_parts(child)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'cfg_options',
        nargs='*',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='change entries of the config, for example train_dataloader.batch_size=4',
    )
    parser.add_argument('--work-dir', '--work_dir', metavar='DIR', help='logs and checkpoints')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')


def _load_config(args: argparse.Namespace) -> Config:
    silence_harmless_warnings()
    file = existing_file(args.config, 'config')
    try:
        cfg = read_config(file)
    except ImportError as error:
        raise ImportError(
            f'{file}: {error}; install MMDetection with pip install -e ".[det]", MMSegmentation '
            'with pip install -e ".[seg]"'
        ) from error
    check_option_names(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    list_single_classes(cfg)
    check_values(cfg)
    cfg.randomness = {'seed': 0, **cfg.get('randomness', {})}
    return cfg
