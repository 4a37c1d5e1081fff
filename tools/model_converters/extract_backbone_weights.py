"""Take the backbone out of a checkpoint of ours or of OpenMixup, whole or backbone alone.

The output holds tensors under timm's names and nothing else. That flat layout is the one that
timm's ``checkpoint_path``, torchvision's ``load_state_dict``, ``init_cfg=dict(type='Pretrained')``
and ``tools/train.py --pretrained`` all read; OpenMixup's ``{'state_dict': …, 'author': …}`` is
foreign to torchvision. The suffix of OUT chooses the format, ``.safetensors`` or ``.pth``.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from a2mim.engine.command_line import one_line_errors
from a2mim.options import Parser, add_reading_options

if TYPE_CHECKING:
    from a2mim.weights.names import Backbone
    from a2mim.weights.recipe import Recipe


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'CHECKPOINT resnet50.pth',
        'CHECKPOINT resnet50.safetensors --weights raw',
    ]
    parser = Parser(__doc__, examples)
    place = 'checkpoint, or the folder of a run'
    parser.add_argument('checkpoint', type=Path, metavar='IN', help=place)
    parser.add_argument('output', type=Path, metavar='OUT', help='.safetensors, .pth or .pt')
    parser.add_argument('--force', action='store_true', help='overwrite OUT if it is there')
    add_reading_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Extract, write, and say what was kept, what was dropped and how to load it."""
    args = parse_args(arguments)
    # With torch: after the command line has been read.
    from a2mim.weights.files import save_file
    from a2mim.weights.names import find_backbone
    from a2mim.weights.recipe import find_recipe
    from a2mim.weights.safe_load import load_file, reading

    if args.output.exists() and not args.force:
        raise FileExistsError(f'{args.output} exists; choose another name or add --force')
    with reading(args):
        content = load_file(args.checkpoint)
        trunk = find_backbone(content)
    check_found(trunk)
    use = lines_of_use(args, find_recipe(content, trunk), trunk)
    save_file(trunk.state, args.output)
    print(f'kept    {len(trunk.kept):5} tensors  {trunk.prefix}*')
    for name, number in Counter(key.split('.')[0] for key in trunk.dropped).items():
        print(f'dropped {number:5} tensors  {name}.*')
    if trunk.choice:
        print(trunk.choice)
    if trunk.family:
        print(f'translated the published names of a {trunk.family} into those of timm')
    print(f'wrote {args.output}')
    print('\n'.join(use))


def check_found(trunk: 'Backbone') -> None:
    """Refuse a file in which no key tells where the backbone is.

    Raises:
        ValueError: If the keys have no known prefix and are of no known family.
    """
    if not trunk.state or not (trunk.prefix or trunk.family or trunk.others):
        raise ValueError(
            f'no backbone found: no key starts with "backbone." or alike, the first are '
            f'{[*trunk.kept, *trunk.dropped][:4]}. A backbone alone needs no extraction'
        )


def lines_of_use(args: argparse.Namespace, recipe: 'Recipe | None', trunk: 'Backbone') -> list[str]:
    """The lines that use the weights, after a strict comparison with timm's model.

    Raises:
        ValueError: If the config in the checkpoint asks for a model that is larger than the file.
    """
    import timm
    import torch

    from a2mim.weights.fit import compare
    from a2mim.weights.recipe import create_timm_model

    output = args.output
    if recipe is None or not timm.is_model(recipe[0]):
        return [
            f"timm.create_model(NAME, num_classes=0, global_pool='', checkpoint_path='{output}')"
        ]
    name, options = recipe
    if not options.get('num_classes'):
        unpooled = {} if 'fc_norm.weight' in trunk.state else {'global_pool': ''}
        options = {'num_classes': 0, **unpooled, **options}
    with torch.device('meta'):
        model = create_timm_model((name, options), trunk.state, args.checkpoint)
    report = compare(model, trunk.state)
    given = ', '.join(f'{key}={value!r}' for key, value in options.items() if value is not None)
    return [
        'checked: loads strictly' if report.complete else f'CHECK: {report}',
        f"model = timm.create_model('{name}', {given}, checkpoint_path='{output}')",
        f'python tools/train.py CONFIG --pretrained {output}',
    ]


if __name__ == '__main__':
    with one_line_errors():
        main()
