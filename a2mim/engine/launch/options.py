"""The options that the tools share, and what each of them changes in a config."""

import argparse
import os
from pathlib import Path

from mmengine import Config, DictAction

from a2mim.engine.launch.data_root import find_datasets
from a2mim.engine.launch.processes import LAUNCHERS
from a2mim.weights.safe_load import add_trust_option


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options of every tool that runs a config."""
    parser.add_argument('config', help='path of a config file')
    parser.add_argument('--work-dir', '--work_dir', metavar='DIR', help='logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change entries of the config, for example optim_wrapper.optimizer.lr=1e-3',
    )
    parser.add_argument(
        '--data-root', '--data_root', metavar='DIR', help='read the images from DIR'
    )
    add_trust_option(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    # Old launchers pass it; new ones set the variable, which is what counts.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Options of training."""
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--resume',
        '--resume_from',
        '--resume-from',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='continue from FILE, or from latest.pth of the work dir ("auto" or nothing)',
    )
    start.add_argument(
        '--auto-resume',
        '--auto_resume',
        dest='resume',
        action='store_const',
        const='auto',
        help='the same as --resume auto',
    )
    start.add_argument(
        '--load-checkpoint',
        '--load_checkpoint',
        metavar='FILE',
        help='start a new run from all weights of a checkpoint',
    )
    parser.add_argument('--pretrained', metavar='FILE', help='start from the trunk in FILE')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--compile', action='store_true', help='torch.compile')
    parser.add_argument('--seed', type=int, help='seed of every random draw')
    parser.add_argument('--deterministic', action='store_true', help='deterministic algorithms')
    parser.add_argument(
        '--strict-data',
        '--strict_data',
        action='store_true',
        help='end at the first image that cannot be read instead of taking another one',
    )
    parser.add_argument(
        '--auto-scale-lr',
        '--auto_scale_lr',
        action='store_true',
        help='scale the learning rate with the global batch instead of keeping the batch',
    )
    parser.add_argument(
        '--no-preflight',
        dest='preflight',
        action='store_false',
        help='start without the checks of disk, shared memory and one step, for example where a '
        'file system does not say how much of it is free',
    )


def apply_train_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the options of training into ``cfg``.

    Raises:
        FileNotFoundError: If a file of weights is missing.
        ValueError: If options contradict each other or the config.
    """
    if args.amp:
        use_mixed_precision(cfg)
    if args.compile:
        cfg.compile = cfg.get('compile') or True
    set_seed(cfg, args.seed)
    set_bad_image_rule(cfg, args.strict_data)
    if args.deterministic:
        cfg.randomness.deterministic = True
        # Without it cuBLAS refuses; read when CUDA starts.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr') is None:
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: '
                'the global batch that its learning rate is meant for'
            )
        cfg.auto_scale_lr.enable = True
    if args.load_checkpoint:
        if args.pretrained:
            raise ValueError('--load-checkpoint and --pretrained exclude each other')
        cfg.load_from = existing_file(args.load_checkpoint, '--load-checkpoint')
    if args.pretrained:
        file = existing_file(args.pretrained, '--pretrained')
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file)


def set_seed(cfg: Config, seed: int | None) -> None:
    """One seed for weights, order, crops and masks: ``seed``, or that of the config, or 0.

    The runner hands its seed to the sampler, but not to the data set, which draws crops and masks.
    """
    cfg.randomness = {'seed': 0, **cfg.get('randomness', {})}
    if seed is not None:
        cfg.randomness.seed = seed
    for dataset in find_datasets(cfg.get('train_dataloader')):
        if seed is not None:
            dataset['seed'] = seed
        elif cfg.randomness.seed is not None:
            dataset.setdefault('seed', cfg.randomness.seed)


def set_bad_image_rule(cfg: Config, strict: bool) -> None:
    """Substitute bad images in training, unless the config or ``strict`` has them end the run."""
    for dataset in find_datasets(cfg.get('train_dataloader')):
        if strict:
            dataset['on_bad_image'] = 'raise'
        else:
            dataset.setdefault('on_bad_image', 'substitute')


def use_mixed_precision(cfg: Config) -> None:
    """Replace the plain optimiser wrapper by the one with autocast."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f"--amp needs optim_wrapper.type='OptimWrapper', not {kind!r}")
    cfg.optim_wrapper.type = 'AmpOptimWrapper'


def existing_file(path: str, option: str) -> str:
    """``path`` itself if it can be opened."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'{option} {path}: there is no such file')
    with open(path, 'rb'):
        return path


def add_out_option(parser: argparse.ArgumentParser, content: str) -> None:
    """Option of a tool that measures: a file for what it found."""
    parser.add_argument('--out', metavar='FILE.json', help=f'write to a file: {content}')


def check_out(path: str | None) -> None:
    """Refuse a file that cannot be written before there is anything to write."""
    if path is None:
        return
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f'--out {path}: there is no folder {Path(path).parent}')
    if Path(path).is_dir():
        raise IsADirectoryError(f'--out {path} is a folder; give the name of a file in it')
