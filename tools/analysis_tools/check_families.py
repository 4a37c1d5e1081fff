"""Test a small model of every file in timm's model zoo as a masked backbone; print two tables.

Each is masked after ``feature_info[-2]``, or after a block named below, and runs one training pass.
It works if its weights load strictly in timm, the token and every other parameter get a gradient,
and an empty mask changes nothing. The tables are Markdown.
"""

import argparse
import gc
import platform
import re
import time
import warnings
from collections.abc import Sequence

import timm
import torch

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.models.timm_inspection import fitting_blocks, image_shapes, trace_first_fit

LARGE = re.compile(
    'huge|giant|gigantic|enormous|large|medium|base|clip|xl|so400m|x64d|[57]b|101|152|200|269|'
    '_[blghm](_|$)'
)
# Models whose ``feature_info`` names no module, or a part of a block that its shortcut bypasses.
BLOCKS = {
    'gemma4_vit': 'encoder.blocks.14',
    'hrnet': 'layer1',
    'twins': 'blocks.2.9',
    'xception': 'block11',
    'xception_aligned': 'blocks.10',
}
# Small images save time for models that accept them; 112 is for patches of 14 pixels.
SMALL_SIZES = (128, 112)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('families', nargs='*', help="timm's model files, for example resnet beit")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Check the given families, by default all."""
    families = parse_args(argv).families or timm.list_modules()
    warnings.simplefilter('ignore')
    torch.manual_seed(0)
    start, failures = time.time(), []
    print('| file | model | mask_after | width | stride | features | output | image |')
    print('|---|---|---|---:|---:|---:|---:|---:|')
    for family in families:
        name = smallest(timm.list_models(module=family))
        try:
            print(f'| {family} | {name} | {check(name, BLOCKS.get(family, -2))} |', flush=True)
        except Exception as error:  # any failure goes into the table
            failures.append(f'| {family} | {name} | {type(error).__name__}: {error} |')
        gc.collect()
    print('\n| file | model | why not |\n|---|---|---|', *failures, sep='\n')
    print(
        f'\n{len(families) - len(failures)} of {len(families)} files work; timm '
        f'{timm.__version__}, torch {torch.__version__}, Python {platform.python_version()}, '
        f'{time.time() - start:.0f} s'
    )


def smallest(names: list[str]) -> str:
    """The model with the fewest parameters, among those without a large size in their name."""
    sizes = {}
    for name in [name for name in names if not LARGE.search(name)] or names:
        with torch.device('meta'):
            model = timm.create_model(name, num_classes=0)
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    return min(sizes, key=sizes.get)


def check(name: str, place: str | int) -> str:
    """One training pass; a row of the table, or an error."""
    backbone = TimmBackbone(name, mask_after=place)
    with torch.device('meta'):
        plain = timm.create_model(name, num_classes=0, global_pool='')
    plain.load_state_dict(backbone.model.state_dict(), strict=True, assign=True)

    height, width, grid, blocks = choose_size(backbone)
    image, mask = torch.randn(2, 3, height, width), torch.zeros(2, *blocks)
    mask[:, 0, 0] = 1
    output = backbone.train()(image, mask)
    output.square().mean().backward()
    idle = [key for key, value in backbone.named_parameters() if value.grad is None]
    if idle or not backbone.mask_token.token.grad.any():
        raise RuntimeError(f'no gradient for {idle or "the token"}')

    backbone.eval()
    with torch.no_grad():
        unmasked = backbone(image)
        if not torch.equal(backbone(image, torch.zeros_like(mask)), unmasked):
            raise RuntimeError('an empty mask changes the output')
        if torch.equal(backbone(image, mask), unmasked):
            raise RuntimeError('a mask does not change the output')
    cells = (
        f'`{backbone.mask_after}`',
        backbone.mask_channels,
        backbone.mask_stride,
        f'{grid[0]}×{grid[1]}',
        f'{output.shape[1]}×{output.shape[2]}×{output.shape[3]}',
        f'{height}×{width}',
    )
    return ' | '.join(map(str, cells))


def choose_size(backbone: TimmBackbone) -> tuple[int, int, tuple[int, int], tuple[int, int]]:
    """Image height and width that the model takes, its feature grid, and its grid of blocks."""
    shapes = image_shapes(backbone.model, {})
    if len(shapes) > 1:  # no fixed size
        shapes = [*((3, size, size) for size in SMALL_SIZES), *shapes]
    places = {backbone.mask_after: backbone.model.get_submodule(backbone.mask_after)}
    geometry = trace_first_fit(backbone.model, shapes, places)
    grid, (height, width) = geometry.at(backbone.mask_after).grid, geometry.image_size
    # The largest blocks with more than one in the image.
    side = [side for side in fitting_blocks(grid, (height, width)) if side < height][-1]
    return height, width, grid, (height // side, width // side)


if __name__ == '__main__':
    main()
