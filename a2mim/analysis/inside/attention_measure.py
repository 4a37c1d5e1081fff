"""Attention of a network over many images: distances of all heads, maps of one block.

Axes: A heads, (h, w) patches.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from a2mim.analysis.batches import measured_batches
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
    folder: Path | None = None,
) -> AttentionSummary:
    """Distances of all heads, and maps of block number ``block``.

    With ``folder``, measured batches are kept there, and a second call goes on from them.

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

    def measure(batch: Tensor, _which: range) -> dict[str, np.ndarray]:
        found = read_attention(model, batch, reduce)
        distances = torch.stack([found[name][0] for name in blocks])
        return dict(distances=distances.numpy(), maps=found[blocks[block]][1].numpy())

    options = dict(folder=folder, batch_size=batch_size, block=blocks[block], query=query)
    for _, part in measured_batches(subject, images, measure, **options):
        total = total + part['distances']
        maps.append(part['maps'])
    distances = total / len(images)
    return AttentionSummary(blocks, distances, np.concatenate(maps), _query_name(model, query))


def _query_name(model: nn.Module, query: int | None) -> str:
    if query is not None:
        return f'patch {query}'
    return 'class token' if has_class_token(model) else 'mean of all patches'
