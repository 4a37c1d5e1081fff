"""Feature maps at every depth of any timm model, read by hooks during its own forward pass.

The hooks see layer scale, stochastic depth and whatever else a block does: no forward pass is
rebuilt from parts.

Axes: B batch, C channels, (H, W) positions.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from a2mim.interfaces import TimmNetwork
from a2mim.models.timm_inspection import read_layout

# Classes of timm with a residual connection; the outermost count.
BLOCK = re.compile(
    r'Block|Bottle2?neck|InvertedResidual|EdgeResidual|DepthwiseSeparableConv|^Residual'
)
MIXERS = ('attn', 'token_mixer', 'mlp_tokens')
MLPS = ('mlp', 'mlp_channels')
T = TypeVar('T')


class NoMapError(ValueError):
    """A layer has no feature map."""


@dataclass(frozen=True)
class Latent:
    """Place of a feature map: ``kind`` is stem, attention, mlp, block or stage."""

    name: str
    kind: str


def residual_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost residual blocks of a timm model by name.

    Raises:
        NoMapError: If it has no known ones.
    """
    blocks: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f'{outer}.') for outer in blocks)
        if name and not inside and BLOCK.search(type(module).__name__):
            blocks[name] = module
    if not blocks:
        raise NoMapError(f'{type(model).__name__} has no known residual blocks')
    return blocks


def read_latents(
    model: nn.Module, images: Tensor, reduce: Callable[[Tensor], T]
) -> list[tuple[Latent, T]]:
    """Apply ``reduce`` to every feature map in one pass, in the order of depth.

    The first is the input of the first block: after the stem of a CNN, after patch embedding and
    position embedding of a ViT. Then follows the output of every block, preceded by the residual
    sum after attention in a block of attention and MLP in sequence; parallel blocks have their
    output alone. Class and register tokens are excluded.

    A network without residual blocks (VGG), or whose blocks do not return one map (CrossViT, TNT,
    MViT), has the outputs of timm's stages.

    Args:
        model: A timm model in evaluation mode.
        images: (B, C, height, width), normalized.
        reduce: Gets each map as (B, C, H, W).

    Raises:
        NoMapError: If timm cannot return the model's stages either.
    """
    try:
        return _read_blocks(model, images, reduce)
    except NoMapError:
        return _read_stages(model, images, reduce)


def normalized_depths(number: int) -> list[float]:
    """Depths of ``number`` latents, from 0 at the first to 1 at the last."""
    return [index / max(number - 1, 1) for index in range(number)]


def as_map(model: nn.Module, features: object, image_size: tuple[int, int]) -> Tensor:
    """Features of any timm layout as (B, C, H, W), without extra tokens.

    Raises:
        NoMapError: If they are not a tensor, or have no grid of positions.
    """
    if not isinstance(features, Tensor):
        raise NoMapError(
            f'{type(model).__name__}: a {type(features).__name__} is no feature map; name another '
            'layer'
        )
    try:
        layout = read_layout(
            (1, *features.shape[1:]),
            image_size,
            channels_last=getattr(model, 'output_fmt', 'NCHW') == 'NHWC',
            num_prefix_tokens=getattr(model, 'num_prefix_tokens', 0),
        )
    except ValueError as error:
        raise NoMapError(f'{type(model).__name__}: {error}; name another layer') from error
    return layout.to_map(features, image_size)


def stage_maps(model: nn.Module, images: Tensor, stages: list[int] | None = None) -> list[Tensor]:
    """(B, C, H, W) of timm's stages: all, or those with these numbers.

    Raises:
        NoMapError: If timm cannot return them.
    """
    if not hasattr(model, 'forward_intermediates'):
        raise NoMapError(f'{type(model).__name__} has no forward_intermediates')
    options = dict(output_fmt='NCHW', intermediates_only=True)
    return cast(TimmNetwork, model).forward_intermediates(images, indices=stages, **options)


def _read_stages(
    model: nn.Module, images: Tensor, reduce: Callable[[Tensor], T]
) -> list[tuple[Latent, T]]:
    with torch.no_grad():
        maps = stage_maps(model, images)
        return [
            (Latent(f'stage {index}', 'stage'), reduce(features))
            for index, features in enumerate(maps)
        ]


def _read_blocks(
    model: nn.Module, images: Tensor, reduce: Callable[[Tensor], T]
) -> list[tuple[Latent, T]]:
    found: list[tuple[Latent, T]] = []
    image_size = (images.shape[-2], images.shape[-1])

    def visit(name: str, kind: str, features: object) -> None:
        found.append((Latent(name, kind), reduce(as_map(model, features, image_size))))

    blocks = residual_blocks(model)
    with ExitStack() as stack, torch.no_grad():
        for name, block in blocks.items():
            for handle in _hook(name, block, visit, found):
                stack.callback(handle.remove)
        model(images)
    return found


def _hook(
    name: str, block: nn.Module, visit: Callable[[str, str, Tensor], None], found: list
) -> list[torch.utils.hooks.RemovableHandle]:
    between = _second_half(block)
    # The first of them to run gets the residual sum after attention: the norm before the MLP
    # (ViT, Swin), or the MLP, where the norm follows it (Swin V2).
    waiting = False

    def enter(_module: nn.Module, inputs: tuple) -> None:
        nonlocal waiting
        waiting = True
        if not found:
            visit('stem', 'stem', inputs[0])

    def halfway(_module: nn.Module, inputs: tuple) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            visit(f'{name}.attention', 'attention', inputs[0])

    def leave(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        visit(name, 'mlp' if between else 'block', output)

    handles = [block.register_forward_pre_hook(enter), block.register_forward_hook(leave)]
    return handles + [part.register_forward_pre_hook(halfway) for part in between]


def _second_half(block: nn.Module) -> list[nn.Module]:
    parts = dict(block.named_children())
    mlps = [parts[name] for name in MLPS if name in parts]
    if 'norm2' not in parts or not mlps or not any(name in parts for name in MIXERS):
        return []
    return [parts['norm2'], *mlps]
