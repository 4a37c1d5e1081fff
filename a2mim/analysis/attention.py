"""Attention of vision transformers: distance of all heads, maps of one block, and figures.

The modules of timm compute the attention; hooks read it.

Axes: B batch, N images or tokens, A heads, P prefix tokens (class, registers), which come first,
(h, w) patches, (H, W) pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import Network, measured_batches

T = TypeVar('T')


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules in ``blocks`` with softmax attention over tokens, by path.

    Raises:
        ValueError: If there are none, or the model has no single grid of patches (Swin, PVT, XCiT).
    """
    modules = {
        name: module
        for name, module in model.named_modules()
        if name.startswith('blocks.')
        and hasattr(module, 'fused_attn')
        and isinstance(getattr(module, 'attn_drop', None), nn.Module)
    }
    grid = getattr(getattr(model, 'patch_embed', None), 'grid_size', None)
    if not modules or grid is None:
        raise ValueError(
            f'{type(model).__name__} has no readable attention between all patches; give a vision '
            'transformer (ViT, DeiT, BEiT, EVA), not a CNN, Swin or CaiT'
        )
    return modules


def read_attention(model: nn.Module, images: Tensor, reduce: Callable[[Tensor], T]) -> dict[str, T]:
    """Apply ``reduce`` to every (B, A, N, N) of a forward pass; rows are queries and sum to 1.

    The fused kernel, which keeps no weights, is off during this pass. The weights include position
    biases and rotary embeddings.

    Raises:
        ValueError: See ``attention_modules``; or if the weights are not between all tokens.
    """
    modules, found = attention_modules(model), {}
    grid = token_grid(model, (images.shape[-2], images.shape[-1]))
    num_tokens = num_prefix(model) + grid[0] * grid[1]

    def take(name: str, attention: Tensor) -> None:
        if attention.ndim != 4 or tuple(attention.shape[-2:]) != (num_tokens, num_tokens):
            raise ValueError(
                f'{type(model).__name__}: {name!r} attends with weights of shape '
                f'{tuple(attention.shape)}, not between all {num_tokens} tokens'
            )
        found[name] = reduce(attention)

    with ExitStack() as stack, torch.no_grad():
        for name, module in cast(dict[str, Any], modules).items():
            stack.callback(setattr, module, 'fused_attn', module.fused_attn)
            module.fused_attn = False
            handle = module.attn_drop.register_forward_pre_hook(
                lambda _module, inputs, name=name: take(name, inputs[0])
            )
            stack.callback(handle.remove)
        model(images)
    return found


def token_grid(model: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) patches of an image of (H, W) pixels, which may differ from the model's own size."""
    embed = cast(Any, model.patch_embed)  # its classes in timm share no base
    if hasattr(embed, 'dynamic_feat_size'):
        return embed.dynamic_feat_size(image_size)
    return tuple(embed.grid_size)


def num_prefix(model: nn.Module) -> int:
    """P of a model."""
    return getattr(model, 'num_prefix_tokens', 0)


def attention_distance(
    attention: Tensor, grid: tuple[int, int], patch: tuple[float, float]
) -> Tensor:
    """Mean distance (B, A) in pixels between query and key patches, weighted by attention.

    Prefix tokens have no position: their rows and columns are excluded, and the rest of each row is
    scaled to a sum of 1. ``grid`` is (h, w) patches, ``patch`` their (height, width) in pixels.

    Reference:
        Dosovitskiy et al., ViT, ICLR 2021 (https://arxiv.org/abs/2010.11929), figure 7; Raghu et
        al., NeurIPS 2021 (https://arxiv.org/abs/2108.08810), section 4.
    """
    prefix = attention.shape[-1] - grid[0] * grid[1]
    weights = attention[..., prefix:, prefix:].double()
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float).tiny)
    axes = [torch.arange(n, device=weights.device) * p for n, p in zip(grid, patch, strict=True)]
    places = torch.cartesian_prod(*axes).double()  # (h·w, 2)
    return (weights * torch.cdist(places, places)).sum(dim=-1).mean(dim=-1)


def attention_map(
    model: nn.Module, attention: Tensor, grid: tuple[int, int], query: int | None
) -> Tensor:
    """Attention weights (B, A, h, w) of one query over the patches.

    ``query`` is the index of a patch, row by row; None is the class token, or without one the mean
    over all patches.
    """
    prefix = num_prefix(model)
    if query is not None:
        row = attention[:, :, prefix + query]
    elif has_class_token(model):
        row = attention[:, :, 0]
    else:
        row = attention[:, :, prefix:].mean(dim=2)
    return row[..., prefix:].unflatten(-1, grid)


def has_class_token(model: nn.Module) -> bool:
    """Whether the first token is a class token."""
    return getattr(model, 'cls_token', None) is not None


@dataclass(frozen=True)
class AttentionSummary:
    """Attention of one network.

    Attributes:
        blocks: Paths of the attention modules, in the order of depth.
        distances: (blocks, A) float64, pixels, mean over images and queries.
        maps: (N, A, h, w) float32, attention weights of the chosen block.
        query: Name of the query of the maps.
    """

    blocks: tuple[str, ...]
    distances: np.ndarray
    maps: np.ndarray
    query: str


def measure_attention(
    network: Network,
    images: AnalysisImages,
    block: int = -1,
    query: int | None = None,
    batch_size: int = 64,
    folder: Path | None = None,
) -> AttentionSummary:
    """Measure distances of all heads, and maps of block number ``block``."""
    model = network.model
    blocks = tuple(attention_modules(model))
    grid = token_grid(model, network.image_size)
    if not -len(blocks) <= block < len(blocks):
        raise ValueError(f'{network.label}: block={block}; it has {len(blocks)}, from 0')
    if query is not None and not 0 <= query < grid[0] * grid[1]:
        raise ValueError(
            f'{network.label}: query={query}; its patches are 0 to {np.prod(grid) - 1}'
        )
    patch = (network.image_size[0] / grid[0], network.image_size[1] / grid[1])
    maps, total = [], np.zeros(())

    def reduce(attention: Tensor) -> tuple[Tensor, Tensor]:
        distance = attention_distance(attention, grid, patch).sum(dim=0)
        return distance.cpu(), attention_map(model, attention, grid, query).cpu()

    def measure(batch: Tensor, _which: range) -> dict[str, np.ndarray]:
        found = read_attention(model, batch, reduce)
        distances = torch.stack([found[name][0] for name in blocks])
        return dict(distances=distances.numpy(), maps=found[blocks[block]][1].numpy())

    settings: dict[str, object] = dict(block=blocks[block], query=query)
    for _, part in measured_batches(
        network, images, measure, folder=folder, batch_size=batch_size, **settings
    ):
        total = total + part['distances']
        maps.append(part['maps'])
    name = _query_name(model, query)
    return AttentionSummary(blocks, total / len(images), np.concatenate(maps), name)


def _query_name(model: nn.Module, query: int | None) -> str:
    if query is not None:
        return f'patch {query}'
    return 'class token' if has_class_token(model) else 'mean of all patches'


def draw_attention_distance(labels: Sequence[str], summaries: Sequence[AttentionSummary]) -> Figure:
    """Draw one panel per network: a dot for every head, a line for their mean."""
    figure = Figure(figsize=(3.2 * len(labels), 3.0), layout='constrained')
    panels = figure.subplots(1, len(labels), squeeze=False, sharey=True)[0]
    for panel, label, summary in zip(panels, labels, summaries, strict=True):
        depth, heads = summary.distances.shape
        numbers = np.arange(depth)
        dots = np.repeat(numbers, heads)
        panel.plot(dots, summary.distances.ravel(), 'o', markersize=4, alpha=0.6, label='head')
        panel.plot(numbers, summary.distances.mean(axis=1), color='black', label='mean')
        panel.set_title(label, fontsize=9)
        panel.set_xlabel('block')
        panel.set_xticks(numbers[:: max(depth // 6, 1)])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel('attention distance in pixels')
    panels[0].set_ylim(0, 1.05 * max(summary.distances.max() for summary in summaries))
    panels[-1].legend(fontsize=8)
    return figure


def draw_attention_maps(
    labels: Sequence[str], maps: Sequence[np.ndarray], pictures: Mapping[str, np.ndarray]
) -> Figure:
    """Draw one row per picture (H, W, 3), and the map (N, h, w) of every network, mean over heads.

    The colour scale of each panel ends at its largest weight, which the title states.
    """
    number = len(pictures)
    figure = Figure(figsize=(2.0 * (1 + len(labels)), 2.2 * number + 0.3), layout='constrained')
    panels = figure.subplots(number, 1 + len(labels), squeeze=False)
    for row, (name, picture) in zip(panels, pictures.items(), strict=True):
        row[0].imshow(picture)
        row[0].set_title(name, fontsize=8)
    for column, (label, weights) in enumerate(zip(labels, maps, strict=True), 1):
        for row, one in zip(panels, weights, strict=True):
            row[column].imshow(one, vmin=0, vmax=one.max(), cmap='viridis')
            row[column].set_title(f'{label}\nlargest {one.max():.3f}', fontsize=8)
    for panel in panels.ravel():
        panel.set_axis_off()
    return figure
