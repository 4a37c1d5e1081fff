"""Pre-train on any folder of images.

    a2mim pretrain --data DIR          chooses network, sizes, batch and length, and says why
    a2mim pretrain CONFIG [options]    trains what a config describes (a2mim pretrain CONFIG --help)

The first form writes what it has chosen to OUT/config.py, a config to edit and to repeat the run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.engine.command_line import checkpoint_file, one_line_errors, read_scale
from a2mim.engine.start_up import lean_imports
from a2mim.own_data.methods import METHODS, Method
from a2mim.own_data.options import (
    FolderParser,
    add_folder_options,
    check_folder_options,
    default_out,
    whole,
    written,
)

EPOCHS = (
    'auto: as many as make 62,600 steps, those of 100 epochs on ImageNet-1K, but 20 to 800 and at '
    'least 3,000 steps'
)


def parser() -> FolderParser:
    """Of the command line."""
    examples = [
        '--data photos',
        '--data photos --backbone convnext_atto --size 96 --time 2m --out o',
        'CONFIG --data photos --out o',
    ]
    made = FolderParser(__doc__, examples)
    add = made.add_argument_group('images').add_argument
    add('--data', metavar='DIR', help='folder of images, at any depth; its train, if it has one')
    add('--size', type=whole, metavar='PIXELS', help='side of crops (default: by the images)')
    as_files = '1, 3 or what the files hold (default: by the images)'
    add('--channels', type=whole, metavar='N', help=as_files)
    scales = 'dtype, minmax, percentile or LOW,HIGH: values that become 0 and 255'
    add('--scale', type=read_scale, metavar='RULE', help=f'{scales} (default: by the images)')
    add = made.add_argument_group('network').add_argument
    usual = METHODS['a2mim']
    network = f'name in timm (default: {usual.on_gpu}, on a CPU {usual.on_cpu}; a small ViT for '
    network += (
        'mae and features), or the function in a Python file that returns a network of your own'
    )
    add('--backbone', metavar='NAME|FILE.py:FUNCTION', help=network)
    add('--method', choices=tuple(METHODS), default='a2mim', help='of pre-training')
    teacher = 'of --method features: name in timm, with its weights (default: own average)'
    add('--teacher', metavar='NAME', help=teacher)
    add(
        '--from',
        '--pretrained',
        dest='pretrained',
        metavar='RUN_OR_FILE',
        help='start from weights',
    )
    probe = 'class folders, by which features are measured during the training'
    add('--probe', metavar='DIR', help=probe)
    add_folder_options(made, EPOCHS)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    made = parser()
    args = made.parse_args(argv)
    check_folder_options(made, args)
    if args.teacher and args.method != 'features':
        made.error(f'--teacher {args.teacher} is for --method features')
    if (args.backbone or '').endswith('.py'):
        made.error(
            f'--backbone {args.backbone} names no function in the file; write '
            f'{args.backbone}:FUNCTION'
        )
    # With torch: after the command line has been read.
    with lean_imports():
        from a2mim.own_data.images import folder_of
        from a2mim.own_data.run import config_of_run, start
    with one_line_errors():
        root = folder_of(args.data)
        args.out = args.out or default_out(root, run_name(root, args.backbone))
        config = config_of_run(made, args) or prepare(made, args, root)
        start(config, args)


def run_name(root: Path, backbone: str | None) -> str:
    """By images and network."""
    name = root.parent.name if root.name == 'train' else root.name
    network = (backbone or '').rpartition(':')[2]
    return '_'.join(filter(None, (name, network)))


def default_backbone(method: Method) -> tuple[str, str]:
    """Name in timm, and why."""
    import torch

    if torch.cuda.is_available():
        return method.on_gpu, f'the default of {method.type}; --backbone takes others of timm'
    return method.on_cpu, f'the default of {method.type} on a CPU, smaller than {method.on_gpu}'


def prepare(made: FolderParser, args: argparse.Namespace, root: Path) -> Path:
    """Look, choose, say it, and write the config."""
    from a2mim.own_data.config_text import check_out
    from a2mim.own_data.images import look, side_for
    from a2mim.own_data.network import MASKS
    from a2mim.own_data.plan import Plan

    check_out(args.out, root)
    run, method = Plan(args), METHODS[args.method]
    if args.pretrained:
        args.pretrained = checkpoint_file(args.pretrained, '--from')
    name, why = (args.backbone, '--backbone') if args.backbone else default_backbone(method)
    images = look(str(root), args.channels, args.scale)
    size, why_size = (args.size, '--size') if args.size else side_for(images)
    choice = MASKS[method.mask](name, size, images.channels)
    run.say(
        images=images.found(),
        **images.facts(),
        size=f'{size} pixels: {why_size}',
        backbone=f'{name}: {why}',
    )
    entries = run.pretraining(images, choice, size)
    title = f'{method.type} pre-training of {name} on a folder, at {size} pixels.'
    return run.write(title, written('pretrain', args, made), entries)
