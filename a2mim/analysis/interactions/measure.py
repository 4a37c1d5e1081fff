"""Differences Δv(i,j,S) of one network on one image.

Axes: M orders, P pairs, C contexts, R rows (one pair in one context), n players, B batch.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from a2mim.analysis.interactions.players import four_presences, neighbour_pairs, sample_contexts
from a2mim.analysis.interactions.settings import InteractionSettings
from a2mim.masking import upsample_mask

SEEDS_PER_IMAGE = 1000  # published; more where a grid has more orders


def image_pairs(settings: InteractionSettings, number: int) -> np.ndarray:
    """The pairs (P, 2) of image ``number``, the same for all orders and networks."""
    return neighbour_pairs(settings.grid, settings.pairs, _seed(settings, number))


def keep_present(image: Tensor, present: Tensor) -> Tensor:
    """Copies of a normalised image (C, H, W) in which only some cells are left: (B, C, H, W).

    Absent cells are 0, the mean colour of the data set.

    Args:
        image: H and W are multiples of g.
        present: bool (B, n), cells row by row.
    """
    grid = round(present.shape[1] ** 0.5)
    cells = present.view(-1, grid, grid).to(image.dtype)
    return image * upsample_mask(cells, tuple(image.shape[-2:])).unsqueeze(1)


@torch.no_grad()
def measure_image(
    value: Callable[[Tensor], Tensor],
    image: Tensor,
    number: int,
    settings: InteractionSettings,
    advance: Callable[[int], None] = lambda passes: None,
) -> dict[str, np.ndarray]:
    """All Δv of one image, in full batches over orders, pairs and contexts.

    Args:
        value: v, from masked images (B, C, H, W) to (B,).
        image: (C, H, W), normalised.
        number: Of the image; it seeds pairs and contexts.
        settings: Numbers of pairs, contexts, orders.
        advance: Told the number of forward passes after each batch.

    Returns:
        ``pairs`` (P, 2); ``delta`` float32 (M, P, C), NaN for repetitions of the one empty or full
        context; ``scale``, the largest |v|, from which rounding is judged.
    """
    pairs = image_pairs(settings, number)
    pair_of_row, contexts = _rows(settings, pairs, number, image.device)
    deltas, scale = [], torch.zeros((), device=image.device)
    rows = settings.batch_size // 4
    for chunk, pair in zip(contexts.split(rows), pair_of_row.split(rows), strict=True):
        v = value(keep_present(image, four_presences(chunk, pair).flatten(0, 1))).view(-1, 4)
        deltas.append(v[:, 0] - v[:, 1] - v[:, 2] + v[:, 3])
        scale = torch.maximum(scale, v.abs().max())
        advance(4 * len(chunk))
    return dict(
        pairs=pairs,
        delta=_by_order(torch.cat(deltas).cpu().numpy(), settings),
        scale=scale.cpu().numpy(),
    )


def _rows(
    settings: InteractionSettings, pairs: np.ndarray, number: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pair (R, 2) and context (R, n) of every row: order by order, pair by pair."""
    on_device = torch.from_numpy(pairs).to(device)
    all_pairs, all_contexts = [], []
    for order, repetitions in zip(settings.orders, settings.contexts_of, strict=True):
        repeated = on_device.repeat_interleave(repetitions, dim=0)
        seed = _seed(settings, number) + order + 1
        all_pairs.append(repeated)
        all_contexts.append(sample_contexts(repeated, order, settings.grid**2, seed))
    return torch.cat(all_pairs), torch.cat(all_contexts)


def _by_order(delta: np.ndarray, settings: InteractionSettings) -> np.ndarray:
    shape = (len(settings.orders), settings.pairs, settings.contexts)
    found = np.full(shape, np.nan, dtype=np.float32)
    start = 0
    for order, repetitions in enumerate(settings.contexts_of):
        stop = start + settings.pairs * repetitions
        found[order, :, :repetitions] = delta[start:stop].reshape(settings.pairs, repetitions)
        start = stop
    return found


def _seed(settings: InteractionSettings, number: int) -> int:
    step = max(SEEDS_PER_IMAGE, settings.grid**2)
    return step * number + settings.seed
