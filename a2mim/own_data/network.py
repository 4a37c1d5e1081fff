"""Choose what follows from a network and a size: the layer of the mask token, blocks, the batch."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from a2mim.engine.backbone_choice import blank_network, choose_mask_layer, fit_image_size
from a2mim.engine.config_edit import PRECISIONS
from a2mim.engine.optimizers import autocast_dtype
from a2mim.masking import num_masked_patches
from a2mim.models.mae import RATIO as MAE_RATIO
from a2mim.models.sparse_encoder import check_layers
from a2mim.models.timm_backbone import own_network
from a2mim.models.timm_inspection import (
    FeatureLayout,
    create_network,
    feature_maps,
    fitting_blocks,
    image_shapes,
    trace_first_fit,
    trace_geometry,
    trace_shapes,
)
from a2mim.models.visible_tokens import find_cut
from a2mim.registry import MODELS

RATIO = 0.6  # of the paper
BLOCKS, FEWEST, MOST = 7, 4, 16  # along a side: those of the paper, and what is taken
FEWEST_PATCHES = 8  # along a side, for MAE: a quarter of 16 would be 4
LEAST_GRID = 3  # features along a side of the output: fewer reconstruct flat squares
# Options of timm that give more features; each family takes one of them, or none.
FINER: tuple[dict[str, int], ...] = ({}, {'output_stride': 8}, {'patch_size': 8}, {'patch_size': 4})
LARGEST_BATCH = 512
BATCH_ON_CPU = 32
FILLED = 0.9  # of the memory of a device, at most
SEEN = 6  # sizes that are tried for a message

# Mask blocks along a side, by the features there and the size of the images.
Count = Callable[[FeatureLayout, int], int | None]


@dataclass(frozen=True)
class Choice:
    """A backbone and the mask that fits it.

    Attributes:
        backbone: Options of ``TimmBackbone`` but for those of the mask.
        mask_after: The layer; None for a method without a token.
        stride: Pixels per feature there.
        block: Pixels of a side of a mask block.
        blocks: Along a side.
        output: Features along a side of what the network returns.
        ratio: Share of masked blocks.
    """

    backbone: dict[str, Any]
    mask_after: str | None
    stride: int
    block: int
    blocks: int
    output: int
    ratio: float = RATIO

    @property
    def masked(self) -> int:
        """Blocks of an image that are masked."""
        return num_masked_patches((self.blocks, self.blocks), self.ratio)

    def blank_mask(self) -> Tensor:
        """Of an image, (h, w), with as many masked blocks."""
        mask = torch.zeros(self.blocks**2, dtype=torch.uint8)
        mask[: self.masked] = 1
        return mask.view(self.blocks, self.blocks)

    def mask(self) -> str:
        """For a person."""
        blocks = f'{self.masked} of {self.blocks}×{self.blocks} blocks of {self.block} pixels'
        if self.mask_after is None:
            return f'{blocks}, which the encoder does not see'
        place = f'after {self.mask_after}, where a feature covers {self.stride} pixels'
        return f'{blocks}; token {place}'


def choose_network(
    name: str, size: int, channels: int, count: Count | None = None, fewest: int = FEWEST
) -> Choice:
    """Options of timm's ``name`` for images of ``size`` pixels, and the mask.

    Args:
        name: In timm, or ``'FILE.py:FUNCTION'``.
        size: Of a side of the images.
        channels: Of the images.
        count: Number of blocks along a side, by the features there; None: ``blocks_of``.
        fewest: Blocks along a side, where an option of timm gives so many.

    Raises:
        ValueError: If timm has no such network, or it takes no such images; the message names those
            that come near.
    """
    if ':' in name:
        return choose_own(name, size, channels, count or blocks_of)
    choices = filter(None, (_choice(name, size, channels, finer, count) for finer in FINER))
    best = None
    for choice in choices:
        if choice.output >= LEAST_GRID and choice.blocks >= fewest:
            return choice
        best = best or choice
    if best is not None:
        return best
    create_network(name, num_classes=0, in_chans=channels)  # raises if there is none
    near = sorted({max(32, (size // 32 + step) * 32) for step in range(-2, 5)} - {size})
    near = sorted(near, key=lambda other: abs(other - size))[:SEEN]
    fit = [str(at) for at in near if any(_choice(name, at, channels, one) for one in FINER)][:3]
    raise ValueError(
        f'--size {size}: {name} has no layer whose features tile images of {size}×{size} pixels '
        f'and fall into mask blocks; sizes that fit: {", ".join(fit) or "none near it"}'
    )


def choose_sparse(name: str, size: int, channels: int) -> Choice:
    """``choose_network`` for SparK, of CNNs: a block is one feature of the output."""
    if ':' in name:
        raise ValueError(
            f'--backbone {name}: --method spark takes networks of timm; docs/methods.md has the '
            'few lines of Python for one of yours'
        )
    if (model := blank_network({'model_name': name})) is not None:
        check_layers(model)
    found = choose_network(name, size, channels)
    return replace(found, mask_after=None, block=size // found.output, blocks=found.output)


def choose_own(place: str, size: int, channels: int, count: Count) -> Choice:
    """The mask for the network of ``'FILE.py:FUNCTION'``.

    The token comes after the last of its outer modules that is finer than the output, or after the
    first where none is, as after the patch embedding of a ViT.

    Raises:
        ValueError: If no module returns features into which mask blocks fall.
    """
    file, _, function = place.rpartition(':')
    place = f'{Path(file).expanduser().absolute()}:{function}'
    network, shape = own_network(place), (channels, size, size)
    try:
        trace_shapes(network, shape, [])
    except Exception as error:
        raise ValueError(
            f'--backbone {place} takes no images of {channels} channels and {size}×{size} pixels '
            f'(--channels and --size choose others): {error}'
        ) from error
    maps = feature_maps(network, shape)
    depths = [name.count('.') for name in maps]
    outer = {name: at for name, at in maps.items() if name.count('.') == min(depths)}
    if len(outer) == 1:  # a Sequential of all
        outer = maps
    found = {name: at for name, at in outer.items() if count(at, size)}
    if not found:
        there = ', '.join(f'{name} {at.grid[0]}×{at.grid[1]}' for name, at in maps.items())
        raise ValueError(
            f'--backbone {place}: no module of {type(network).__name__} returns features of images '
            f'of {size}×{size} pixels and {channels} channels into which mask blocks fall; '
            f'its maps: {there or "none"}'
        )
    output = [*maps.values()][-1]
    finer = [name for name, at in found.items() if at.grid > output.grid]
    layer = finer[-1] if finer else next(iter(found))
    there = found[layer]
    blocks = cast(int, count(there, size))
    backbone = {'type': 'OwnBackbone', 'network': place, 'img_size': size, **in_chans(channels)}
    return Choice(backbone, layer, cast(int, there.stride), size // blocks, blocks, output.grid[0])


def blocks_of(layout: FeatureLayout, size: int) -> int | None:
    """Mask blocks along a side, of those that fall into the features the nearest to ``BLOCKS``."""
    if not isinstance(layout.stride, int):
        return None
    counts = [size // side for side in fitting_blocks(layout.grid, (size, size))]
    counts = [count for count in counts if 2 <= count <= MOST]
    return min(counts, key=lambda count: (abs(count - BLOCKS), count), default=None)


def patches_of(layout: FeatureLayout, _size: int) -> int | None:
    """Patches along a side: every feature is a mask block of its own."""
    return layout.grid[0] if isinstance(layout.stride, int) else None


def choose_patches(name: str, size: int, channels: int) -> Choice:
    """``choose_network`` for MAE, of plain ViTs, whose patches are masked one by one."""
    model = own_network(name) if ':' in name else blank_network({'model_name': name})
    if model is not None:
        find_cut(model)
    found = choose_network(name, size, channels, patches_of, FEWEST_PATCHES)
    return replace(found, mask_after=None, ratio=MAE_RATIO)


def choose_outputs(name: str, size: int, channels: int) -> Choice:
    """``choose_network`` for feature targets: a block is one feature of the output, or more."""
    found = choose_network(name, size, channels)
    if found.output % found.blocks == 0:
        return found
    return replace(found, block=size // found.output, blocks=found.output)


def choose_teacher(name: str, size: int, channels: int) -> dict[str, Any]:
    """Config of a frozen teacher, timm's ``name`` with its weights.

    Raises:
        ValueError: If timm has no such network.
    """
    if not timm.is_model(name):
        create_network(name)  # raises
    teacher = {'type': 'TimmBackbone', 'model_name': name, 'pretrained': True, **in_chans(channels)}
    fit_image_size(teacher, (size, size))
    return teacher


def blocks_for_teacher(choice: Choice, teacher: dict[str, Any], size: int, channels: int) -> Choice:
    """``choice`` with blocks that cover whole features of the teacher.

    Raises:
        ValueError: If there are no two along a side.
    """
    model, grid = blank_network(teacher), (0, 0)
    if model is not None:
        grid = trace_geometry(model, (channels, size, size), {}).output().grid
    fitting = [n for n in range(choice.blocks, 1, -1) if not (grid[0] % n or choice.blocks % n)]
    if not fitting or grid[0] < 2:
        name = teacher['model_name']
        raise ValueError(
            f'--teacher {name} has {grid[0]}×{grid[1]} features of {size} pixels, and the network '
            f'{choice.blocks}×{choice.blocks} mask blocks: no larger block covers whole features '
            'of both; give another --size, such as the one that the teacher was trained with'
        )
    return replace(choice, blocks=fitting[0], block=size // fitting[0])


# How the mask of a method is chosen.
MASKS = {
    'blocks': choose_network,
    'patches': choose_patches,
    'features': choose_sparse,
    'outputs': choose_outputs,
}


def _choice(
    name: str, size: int, channels: int, finer: dict[str, int], count: Count | None = None
) -> Choice | None:
    """With one of ``FINER``; None where that does not work."""
    if not timm.is_model(name):
        return None
    backbone: dict[str, Any] = {'model_name': name, **in_chans(channels), **finer}
    fit_image_size(backbone, (size, size))
    model, shape = blank_network(backbone), (channels, size, size)
    layer = None if model is None else choose_mask_layer(model, shape, (1, 1))
    if model is None or layer is None:
        return None
    try:
        modules = {layer: model.get_submodule(layer)}
        geometry = trace_geometry(model, shape, modules)
        usual = trace_first_fit(model, image_shapes(model, backbone), modules)
        there, output = geometry.at(layer), geometry.output()
    except ValueError:
        return None
    if output.stride != usual.output().stride:
        return None  # the decoder is built for the usual stride
    blocks = (count or blocks_of)(there, size)
    if blocks is None:
        return None
    stride = cast(int, there.stride)
    return Choice(backbone, layer, stride, size // blocks, blocks, output.grid[0])


def in_chans(channels: int) -> dict[str, Any]:
    """Of a backbone."""
    return {} if channels == 3 else {'in_chans': channels}


def opens_branches(backbone: dict[str, Any]) -> bool:
    """Whether the network has residual branches that timm starts at zero, and may not."""
    if 'model_name' not in backbone or 'zero_init_last' in backbone:
        return False
    option = {'zero_init_last': False}
    return blank_network({**backbone, **option}) is not None


def power_of_two(limit: float) -> int:
    """The largest that is not above ``limit``, at least 1."""
    return 1 << max(0, int(limit).bit_length() - 1)


def fitting_batch(
    model: dict, example: Mapping[str, Tensor], images: int, precision: str
) -> tuple[int, str]:
    """Images a step of one device, and why.

    Args:
        model: Config of the algorithm.
        example: One image, and what belongs to it.
        images: How many there are.
        precision: As ``--precision`` states it.
    """
    few = power_of_two(images / 4)
    if not torch.cuda.is_available():
        batch = min(BATCH_ON_CPU, few)
        reason = (
            'the default on a CPU' if batch == BATCH_ON_CPU else f'a quarter of {images} images'
        )
        return batch, reason
    batch = min(LARGEST_BATCH, few)
    reason = f'the power of two below a quarter of {images} images'
    if batch == LARGEST_BATCH:
        reason = 'the most for which the rule of the learning rate is meant'
    while batch > 1 and not trains(model, batch_of(example, batch), precision):
        batch //= 2
        reason = 'the largest power of two that fits into the memory, by trial'
    return batch, reason


def blank_image(channels: int, size: int) -> Tensor:
    """Of 8 bit, (C, H, W)."""
    return torch.zeros(channels, size, size, dtype=torch.uint8)


def batch_of(example: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """A batch of ``number`` times the same image."""
    return {name: torch.stack([value] * number) for name, value in example.items()}


def trains(model: dict, batch: dict[str, Tensor], precision: str) -> bool:
    """Whether a step on ``batch`` leaves some memory of the GPU."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    limit = FILLED * torch.cuda.mem_get_info()[0]
    try:
        step_seconds(model, batch, precision, steps=1)
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return torch.cuda.max_memory_reserved() < limit


def step_seconds(
    model: dict, batch: dict[str, Tensor], precision: str, steps: int | None = None
) -> float:
    """Seconds of the last of a few steps of a new network, with the state of its optimiser."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    steps = steps or (3 if device == 'cuda' else 1)  # a GPU is slow at first
    with DefaultScope.overwrite_default_scope('a2mim'), torch.random.fork_rng():
        network = MODELS.build(model).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    taken = autocast_dtype(PRECISIONS[precision].get('dtype'), device)
    mixed = precision != 'fp32' and taken != torch.float32
    started = 0.0
    for _ in range(steps):
        started = time.perf_counter()
        data = network.data_preprocessor(dict(batch), True)
        with torch.autocast(device, dtype=taken if mixed else torch.bfloat16, enabled=mixed):
            loss, _ = network.parse_losses(network(**data, mode='loss'))
        loss.backward()
        optimizer.step()
        if device == 'cuda':
            torch.cuda.synchronize()
    return time.perf_counter() - started
