"""Which layer a class activation map looks at, and how its features lie.

Axes: B batch, C channels, L tokens, (h, w) positions, (H, W) pixels.
"""

from collections.abc import Callable

from torch import Tensor, nn

from a2mim.analysis.inside.attention import num_prefix, token_grid
from a2mim.analysis.spectra.latents import as_map


def is_vit_like(model: nn.Module) -> bool:
    """Whether blocks of the model work on patch tokens in a grid that timm knows."""
    grid = getattr(getattr(model, 'patch_embed', None), 'grid_size', None)
    return grid is not None and hasattr(model, 'blocks')


def default_layer(model: nn.Module) -> str:
    """Path of the last norm layer that can be looked at.

    Of a ViT it is the first norm of the last block: behind the last attention, patches do not
    reach the class token any more and have no gradient. Of a CNN, the norms of shortcuts and of
    the classifier are passed over.

    Raises:
        ValueError: If there is no norm layer.
    """
    if is_vit_like(model):
        last = f'blocks.{len(model.blocks) - 1}.norm1'
        if last in dict(model.named_modules()):
            return last
    norms = [
        name
        for name, module in model.named_modules()
        if 'Norm' in type(module).__name__ and not name.startswith(('head', 'fc_norm', 'norm_head'))
    ]
    main = [name for name in norms if 'downsample' not in name and 'shortcut' not in name]
    if not main:
        raise ValueError(f'{type(model).__name__} has no norm layer; name one with --target-layers')
    return main[-1]


def map_reader(
    model: nn.Module, image_size: tuple[int, int], num_extra: int | None = None
) -> Callable[[Tensor], Tensor]:
    """A function from the features of any layer to (B, C, h, w).

    Args:
        model: Its ``patch_embed`` and ``num_prefix_tokens`` say how tokens lie.
        image_size: (H, W).
        num_extra: Tokens before the patches, in place of ``num_prefix_tokens``.
    """

    def read(features: Tensor) -> Tensor:
        if features.ndim != 3 or not is_vit_like(model):
            # A copy: the ReLU that follows may work in place, on what was read.
            return as_map(model, features, image_size).clone()
        grid = token_grid(model, image_size)
        extra = num_prefix(model) if num_extra is None else num_extra
        if features.shape[1] != extra + grid[0] * grid[1]:
            raise ValueError(
                f'{features.shape[1]} tokens are not {extra} extra ones and {grid[0]}×{grid[1]} '
                'patches; give another --num-extra-tokens or target layer'
            )
        return features[:, extra:].transpose(1, 2).unflatten(2, grid).clone()

    return read
