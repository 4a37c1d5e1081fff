"""Attention of a network over many images: distances of all heads, maps of one block.

Axes: A heads, (h, w) patches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.inside.attention import (
    attention_distance,
    attention_map,
    attention_modules,
    has_class_token,
    read_attention,
    token_grid,
)
from a2mim.analysis.subject import Subject


@dataclass(frozen=True)
class AttentionSummary:
    """Of one network.

    Attributes:
        blocks: Paths of the attention modules, in the order of depth.
        distances: (blocks, A) float64, pixels, mean over images and queries.
        maps: (images, A, h, w) float32 of the chosen block: weights of the patches.
        query: Whose weights the maps are.
    """

    blocks: tuple[str, ...]
    distances: np.ndarray
    maps: np.ndarray
    query: str


def measure_attention(
    subject: Subject,
    images: AnalysisImages,
    block: int = -1,
    query: int | None = None,
    batch_size: int = 64,
) -> AttentionSummary:
    """Distances of all heads, and maps of block number ``block``.

    Raises:
        ValueError: If the network has no such attention, block or query.
    """
    model = subject.model
    blocks = tuple(attention_modules(model))
    grid = token_grid(model, subject.image_size)
    if not -len(blocks) <= block < len(blocks):
        raise ValueError(f'{subject.label}: block={block}; it has {len(blocks)}, from 0')
    if query is not None and not 0 <= query < grid[0] * grid[1]:
        raise ValueError(
            f'{subject.label}: query={query}; its patches are 0 to {np.prod(grid) - 1}'
        )
    patch = (subject.image_size[0] / grid[0], subject.image_size[1] / grid[1])
    total, maps = 0, []

    def reduce(attention: Tensor) -> tuple[Tensor, Tensor]:
        distance = attention_distance(attention, grid, patch).sum(dim=0)
        return distance.cpu(), attention_map(model, attention, grid, query).cpu()

    for span in images.spans(batch_size):
        batch = images.pixels(subject.image_size, *span)
        found = read_attention(model, subject.normalise(batch), reduce)
        total = total + torch.stack([found[name][0] for name in blocks])
        maps.append(found[blocks[block]][1])
    distances = (total / len(images)).numpy()
    return AttentionSummary(blocks, distances, torch.cat(maps).numpy(), _query_name(model, query))


def _query_name(model: nn.Module, query: int | None) -> str:
    if query is not None:
        return f'patch {query}'
    return 'class token' if has_class_token(model) else 'mean of all patches'
