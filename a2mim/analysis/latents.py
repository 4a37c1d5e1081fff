"""Feature maps in the depth of any timm model, read by hooks while the model runs as it is.

Axes: B batch, C channels, (H, W) positions.
Layer scale, stochastic depth and whatever else a block does are in what the hooks see: nothing is
put together again from parts.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from a2mim.models.timm_inspection import read_layout

# Classes of timm that add something to their input; the outermost count.
BLOCK = re.compile(
    r'Block|Bottle2?neck|InvertedResidual|EdgeResidual|DepthwiseSeparableConv|^Residual'
)
MIXERS = ('attn', 'token_mixer', 'mlp_tokens')
MLPS = ('mlp', 'mlp_channels')
T = TypeVar('T')


class NoMapError(ValueError):
    """There is no feature map where one was looked for."""


@dataclass(frozen=True)
class Latent:
    """Where a feature map is: ``kind`` is stem, attention, mlp, block or stage."""

    name: str
    kind: str


def residual_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost residual blocks of a timm model by name.

    Raises:
        NoMapError: If it has none that is known.
    """
    blocks: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f'{outer}.') for outer in blocks)
        if name and not inside and BLOCK.search(type(module).__name__):
            blocks[name] = module
    if not blocks:
        raise NoMapError(f'{type(model).__name__} has no residual blocks that are known here')
    return blocks


def read_latents(
    model: nn.Module, images: Tensor, reduce: Callable[[Tensor], T]
) -> list[tuple[Latent, T]]:
    """What ``reduce`` makes of every feature map in one pass, in the order of depth.

    First is the input of the first block: behind the stem of a CNN, and behind patch embedding
    and positions of a ViT. Then comes what every block returns; before it, in a block of
    attention and MLP one after the other, the sum behind the attention. Blocks that compute both
    at once give their output alone. Class and register tokens are left out.

    A network without residual blocks (VGG), or whose blocks return something else than one map
    (CrossViT, TNT, MViT), gives the outputs of timm's stages.

    Args:
        model: A timm model in evaluation mode.
        images: (B, C, height, width), normalised.
        reduce: Gets each map as (B, C, H, W) and should keep little of it.

    Raises:
        NoMapError: If timm cannot give the stages of the model either.
    """
    try:
        return _read_blocks(model, images, reduce)
    except NoMapError:
        return _read_stages(model, images, reduce)


def normalised_depths(number: int) -> list[float]:
    """Depths of ``number`` latents, from 0 at the first to 1 at the last."""
    return [index / max(number - 1, 1) for index in range(number)]


def as_map(model: nn.Module, features: object, image_size: tuple[int, int]) -> Tensor:
    """Features of any timm layout as (B, C, H, W), without extra tokens.

    Raises:
        NoMapError: If they are no tensor, or have no grid of positions.
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
        NoMapError: If timm cannot give them.
    """
    if not hasattr(model, 'forward_intermediates'):
        raise NoMapError(f'{type(model).__name__} cannot give its features (forward_intermediates)')
    options = dict(output_fmt='NCHW', intermediates_only=True)
    return model.forward_intermediates(images, indices=stages, **options)


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
    # The first of them to run gets the sum behind the attention: the norm, where it comes
    # before the MLP (ViT, Swin), or the MLP, where it comes after (Swin V2).
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


# [log_amplitude]
# How strong each frequency is: log amplitudes along the diagonal of a spectrum, and in rings.
#
# Axes: B batch, C channels, (H, W) positions, F frequencies. Frequencies are fractions of π per
# position, the highest that a grid can carry along an axis.
#
# Reference:
# Park and Kim, How do vision transformers work?, ICLR 2022 (https://arxiv.org/abs/2202.06709).


FLOOR = 1e-6  # added to amplitudes, so that the log of none is finite


def log_amplitude_map(features: Tensor) -> Tensor:
    """``log(|FFT| + 1e-6)`` of (B, C, H, W), mean over B and C: (H, W), not shifted.

    The transform is not scaled, and the log is natural. Computed in at least single precision.
    """
    if not features.dtype.is_floating_point or features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    return (torch.fft.fft2(features).abs() + FLOOR).log().mean(dim=(0, 1))


def diagonal_frequencies(size: tuple[int, int]) -> np.ndarray:
    """(F,) fractions of π of ``diagonal`` of a (H, W) map, F = ceil(min(H, W) / 2).

    An even side of n has no entry at π: its last one is 1 - 2 / n.
    """
    side = min(size)
    return 2 * np.arange((side + 1) // 2) / side


def diagonal(amplitudes: Tensor) -> Tensor:
    """Entries of a (H, W) map at equal vertical and horizontal frequency, from zero up: (F,).

    Where H and W differ, the longer axis gives its nearest frequency.
    """
    height, width = amplitudes.shape
    fractions = torch.from_numpy(diagonal_frequencies((height, width)) / 2)
    rows, columns = ((fractions * side).round().long() for side in (height, width))
    return amplitudes[rows, columns]


def relative_log_amplitude(features: Tensor) -> Tensor:
    """The diagonal of ``log_amplitude_map``, less its entry at zero frequency: (F,)."""
    curve = diagonal(log_amplitude_map(features))
    return curve - curve[0]


def radial_frequency(size: tuple[int, int]) -> Tensor:
    """(H, W) distance of every entry of an FFT from zero frequency, from 0 to √2 (times π)."""
    rows, columns = (2 * torch.fft.fftfreq(side, dtype=torch.float64) for side in size)
    return torch.hypot(rows[:, None], columns[None, :])


def ring_frequencies(size: tuple[int, int]) -> np.ndarray:
    """(F,) fractions of π in the middle of the rings of ``ring_means``, from 0 to at most 1."""
    side = min(size)
    return 2 * np.arange(side // 2 + 1) / side


def ring_means(amplitudes: Tensor) -> Tensor:
    """Mean of a (..., H, W) map, not shifted, over rings of equal frequency: (..., F).

    A ring is as wide as one frequency of the shorter side. What is beyond the last ring, in the
    corners of the spectrum, is in none.
    """
    height, width = amplitudes.shape[-2:]
    side = min(height, width)
    ring = (radial_frequency((height, width)) * side / 2).round().long().flatten()
    num_rings = side // 2 + 1
    inside = ring < num_rings
    member = torch.nn.functional.one_hot(ring[inside], num_rings).to(amplitudes)
    return amplitudes.flatten(-2)[..., inside.to(amplitudes.device)] @ (member / member.sum(dim=0))


# [variance]
# How much features vary over positions.


def spatial_variance(features: Tensor) -> Tensor:
    """Unbiased variance over the positions of (B, C, H, W), mean over B and C: a scalar.

    Reference:
        Park and Kim, How do vision transformers work?, ICLR 2022
        (https://arxiv.org/abs/2202.06709), figure 9.
    """
    return features.var(dim=(2, 3)).mean()
