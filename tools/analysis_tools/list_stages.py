"""Print the layers of a timm model after which a mask token can be inserted (``mask_after``).

A layer is a module path; the stages of timm's ``feature_info`` also have an index. The token has
``channels`` values; ``blocks`` are the sides of mask blocks, in pixels, that fit the grid.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from a2mim.engine.command_line import one_line_errors
from a2mim.engine.config_options import ConfigOptions
from a2mim.options import Parser

if TYPE_CHECKING:
    from torch import nn

    from a2mim.models.timm_inspection import FeatureLayout, ImageShape

ROW = '{:<28} {:>5} {:>8} {:>6} {:>9}  {}'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, ['convnext_tiny', 'vit_small_patch16_224 --img-size 192 --all'])
    add = parser.add_argument
    add('model', help='name in timm, for example convnext_tiny')
    add('--img-size', type=int, nargs='+', metavar='PIXELS', help='side, or H W')
    add('--all', action='store_true', help='every module that works, not stages')
    options = 'for timm, for example embed_dim=192 depth=4'
    key = 'KEY=VALUE'
    add('--model-options', nargs='+', action=ConfigOptions, default={}, metavar=key, help=options)
    return parser.parse_args(argv)


def build(name: str, img_size: list[int] | None, options: dict) -> 'tuple[nn.Module, ImageShape]':
    """The model on the meta device, and the shape (C, H, W) of its images."""
    import torch

    from a2mim.models.timm_inspection import create_network, image_shapes, trace_first_fit

    options = {'num_classes': 0, 'global_pool': '', **options}
    sized = {**options, 'img_size': (img_size[0], img_size[-1])} if img_size else options
    with torch.device('meta'):
        try:
            model = create_network(name, **sized)
        except TypeError:  # a convolutional model takes any size, and no option for it
            model = create_network(name, **options)
    shapes = image_shapes(model, sized)
    return model, (shapes[0][0], *trace_first_fit(model, shapes, {}).image_size)


def places(
    model: 'nn.Module', image_shape: 'ImageShape', *, everything: bool
) -> 'Iterator[tuple[str, int | str, FeatureLayout]]':
    """Path, index into ``feature_info`` and layout of every layer, in the order of the model.

    Without ``everything``, these are the stages, their downsampling, and other top-level modules.
    """
    from torch import nn

    from a2mim.models.timm_inspection import last_block, trace_geometry

    modules = dict(model.named_modules())
    del modules['']
    geometry = trace_geometry(model, image_shape, modules)
    indices = {info['module']: i for i, info in enumerate(model.feature_info)}
    stages = {last_block(modules[path]): path for path in indices if path in modules}
    for path, module in modules.items():
        beside = '.' not in path and not isinstance(module, nn.Identity)
        is_stage = path in indices or path.removesuffix('.downsample') in indices
        same_as_stage = stages.get(last_block(module), path) != path
        if same_as_stage or not (everything or beside or is_stage):
            continue
        try:
            yield path, indices.get(path, ''), geometry.at(path)
        except ValueError:  # not one feature map in one pass
            continue


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    from a2mim.models.timm_inspection import fitting_blocks

    with one_line_errors():
        model, image_shape = build(args.model, args.img_size, args.model_options)
        rows = list(places(model, image_shape, everything=args.all))
        _, height, width = image_shape
        print(f'{args.model}, image of {height}×{width} pixels')
        print(ROW.format('mask_after', 'index', 'channels', 'stride', 'features', 'blocks'))
        for path, index, layout in rows:
            grid = f'{layout.grid[0]}×{layout.grid[1]}'
            blocks = ', '.join(map(str, fitting_blocks(layout.grid, (height, width))))
            print(ROW.format(path, index, layout.channels, str(layout.stride), grid, blocks))


if __name__ == '__main__':
    main()
