"""Multi-order interactions between image patches: settings, sampling, and measurement.

An interaction is Δv = v(S∪{i,j}) - v(S∪{i}) - v(S∪{j}) + v(S) of a network's scalar output v; its
order is the size of the context S.

Axes: n players (cells of a g×g grid, row by row), M orders, P pairs, C contexts, R rows (one pair
in one context), T images, B batch, K classes, D features.

Reference:
    Deng et al., Discovering and explaining the representation bottleneck of DNNs, ICLR 2022
    (https://arxiv.org/abs/2111.06236), section 3, and its reference implementation's settings.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.interaction_strength import (
    Estimate,
    draw_interactions,
    estimate_rows,
    estimate_strength,
    interactions,
)
from a2mim.analysis.networks import Network, open_store, pooled_features
from a2mim.analysis.results import Results
from a2mim.masking import upsample_mask
from a2mim.weights.files import write_atomically

CAPTION = (
    'Relative strength J of interactions between pairs of neighbouring patches (dimensionless, '
    'mean over orders 1) over the size of their context; bands: 95 % bootstrap intervals over '
    'images and pairs.'
)
FEATURE = 'feature'
RADIUS = 2  # cells between the two of a pair, at most, along either axis
PUBLISHED_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
TARGETS = ('auto', 'label', 'predicted')
SEEDS_PER_IMAGE = 1000  # of the reference implementation; more for grids with more orders


def log_odds(logits: Tensor, label: int) -> Tensor:
    """``z_y - log Σ_{k≠y} exp z_k``, which is log(p_y / (1 - p_y)): (B, K) to (B,)."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1)


def log_probability(logits: Tensor, label: int) -> Tensor:
    """``log p_y``: (B, K) to (B,)."""
    return logits.log_softmax(dim=1)[:, label]


def logit(logits: Tensor, label: int) -> Tensor:
    """``z_y``: (B, K) to (B,)."""
    return logits[:, label]


LOGIT_OUTPUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    'modified': log_odds,
    'normal': log_probability,
    'yi': logit,
}
OUTPUTS = (*LOGIT_OUTPUTS, FEATURE)


def choose_output(network: Network, wanted: str | None) -> str:
    """``wanted``, which the network must have; by default ``'modified'`` or ``'feature'``."""
    classifies = network.num_classes > 0
    if wanted is None:
        return 'modified' if classifies else FEATURE
    if not classifies and wanted != FEATURE:
        raise ValueError(
            f'{network.label} has no classifier, so it has no output {wanted!r}; take {FEATURE!r}, '
            'or fine-tune it first'
        )
    if classifies and wanted == FEATURE:
        raise ValueError(
            f'{network.label} is a classifier; {FEATURE!r} is for backbones: take one of '
            f'{", ".join(LOGIT_OUTPUTS)}'
        )
    return wanted


def network_outputs(network: Network, batch: Tensor) -> Tensor:
    """Logits (B, K) of a classifier, else features averaged over positions (B, D).

    Double precision: an interaction is a small difference of four large numbers.
    """
    found = network.model(batch) if network.num_classes else pooled_features(network, batch)
    return found.double()


def projection(features: Tensor, whole: Tensor) -> Tensor:
    """Scalar projection of ``features`` (B, D) onto those of the whole image (D,): (B,).

    Linear in the features, as a logit is: that of a classifier without bias whose weights are the
    image's own features, scaled to length 1.
    """
    return features @ F.normalize(whole, dim=0)


def orders_of(ratios: Sequence[float], grid: int) -> tuple[int, ...]:
    """Context sizes ``int((n - 2) · ratio)`` of a grid×grid image, which must differ."""
    if grid < 2:
        raise ValueError(f'grid={grid} must be at least 2: a pair needs other players')
    if not ratios:
        raise ValueError('no ratios: give at least one in [0, 1]')
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio={ratio} must lie in [0, 1]: it is a share of the players')
    rest = grid * grid - 2
    orders = tuple(int(rest * ratio) for ratio in ratios)
    for order in orders:
        if orders.count(order) > 1:
            same = [ratio for ratio, other in zip(ratios, orders, strict=True) if other == order]
            raise ValueError(
                f'ratios {same} all mean contexts of {order} of the {rest} other patches of a '
                f'{grid}×{grid} grid; leave all but one out, or take a larger --grid'
            )
    return orders


def num_neighbour_pairs(grid: int) -> int:
    """Number of unordered pairs of cells at most ``RADIUS`` apart along both axes."""
    near = sum(max(grid - step, 0) * (1 if step == 0 else 2) for step in range(RADIUS + 1))
    # near² counts ordered pairs, including each cell with itself.
    return (near * near - grid * grid) // 2


def neighbour_pairs(grid: int, number: int, seed: int) -> np.ndarray:
    """Distinct pairs of neighbours, int64 (P, 2), drawn as in the reference implementation.

    The first cell is uniform; the second has a uniform offset of up to ``RADIUS`` cells, clamped
    to the grid, so that border cells are chosen more often.

    Raises:
        ValueError: If there are fewer than ``number`` pairs.
    """
    available = num_neighbour_pairs(grid)
    if not 1 <= number <= available:
        raise ValueError(
            f'pairs={number}: a {grid}×{grid} grid has {available} pairs of patches at most '
            f'{RADIUS} apart; ask for 1 to {available}'
        )
    rng = np.random.default_rng(seed)
    pairs: dict[frozenset[int], tuple[int, int]] = {}
    while len(pairs) < number:
        first = rng.integers(grid, size=2)
        second = np.clip(first + rng.integers(-RADIUS, RADIUS + 1, size=2), 0, grid - 1)
        one, other = (int(cell[0] * grid + cell[1]) for cell in (first, second))
        if one != other:
            pairs.setdefault(frozenset((one, other)), (one, other))
    return np.array(list(pairs.values()))


def sample_contexts(pairs: Tensor, order: int, players: int, seed: int) -> Tensor:
    """A uniform subset of ``order`` players without the pair for every row, bool (R, n).

    All rows are drawn at once, so that the result does not depend on the batch size; it is
    reproducible on the same type of device. ``pairs`` are (R, 2).
    """
    generator = torch.Generator(pairs.device).manual_seed(seed)
    # The ``order`` smallest of independent uniform numbers are a uniform subset.
    shape = (len(pairs), players)
    scores = torch.rand(shape, generator=generator, device=pairs.device, dtype=torch.float64)
    scores.scatter_(1, pairs, 2.0)
    chosen = scores.argsort(dim=1)[:, :order]
    return torch.zeros(shape, dtype=torch.bool, device=pairs.device).scatter_(1, chosen, True)


def four_presences(contexts: Tensor, pairs: Tensor) -> Tensor:
    """Players present in S∪{i,j}, S∪{i}, S∪{j} and S, bool (R, 4, n)."""
    present = contexts[:, None].repeat(1, 4, 1)
    rows = torch.arange(len(pairs), device=pairs.device)
    first, second = pairs.unbind(1)
    present[rows, 0, first] = present[rows, 1, first] = True
    present[rows, 0, second] = present[rows, 2, second] = True
    return present


@dataclass(frozen=True)
class InteractionSettings:
    """Settings of a measurement; the defaults are those of the reference for ImageNet.

    Attributes:
        grid: g, cells along either side; n = g² players.
        pairs: Per image.
        contexts: Per pair and order. The empty and the full context are measured once.
        ratios: Context sizes as shares of the n - 2 other players.
        output: One of ``OUTPUTS``, see ``choose_output``.
        target: Class whose logit is v: the label, the class predicted for the whole image, or
            'auto': the label if the images have labels of as many classes as there are logits.
        correct_only: Skip misclassified images.
        seed: Of pairs and contexts.
        batch_size: Masked images in a forward pass.

    Raises:
        ValueError: If one of them is out of range.
    """

    grid: int = 14
    pairs: int = 50
    contexts: int = 50
    ratios: tuple[float, ...] = PUBLISHED_RATIOS
    output: str | None = None
    target: str = 'auto'
    correct_only: bool = False
    seed: int = 0
    batch_size: int = 512

    def __post_init__(self) -> None:
        orders_of(self.ratios, self.grid)
        neighbour_pairs(self.grid, self.pairs, seed=0)
        if self.contexts < 1:
            raise ValueError(f'contexts={self.contexts} must be at least 1')
        if self.batch_size < 4:
            raise ValueError(
                f'batch_size={self.batch_size} must be at least 4: an interaction '
                'takes four masked images'
            )
        if self.output is not None and self.output not in OUTPUTS:
            raise ValueError(f'output={self.output!r} is none of {", ".join(OUTPUTS)}')
        if self.target not in TARGETS:
            raise ValueError(f'target={self.target!r} is none of {", ".join(TARGETS)}')

    @property
    def orders(self) -> tuple[int, ...]:
        """Sizes of the contexts."""
        return orders_of(self.ratios, self.grid)

    @property
    def contexts_of(self) -> tuple[int, ...]:
        """Contexts to measure for each order."""
        last = self.grid**2 - 2
        return tuple(1 if order in (0, last) else self.contexts for order in self.orders)

    @property
    def passes_per_image(self) -> int:
        """Masked images for one image and network."""
        return 4 * self.pairs * sum(self.contexts_of)


def check_networks(
    networks: Sequence[Network], images: AnalysisImages, settings: InteractionSettings
) -> None:
    """Raise a ValueError unless networks, images and settings fit each other."""
    if len(images) < 2:
        raise ValueError(f'{len(images)} image: confidence intervals need at least 2 --num-images')
    for network in networks:
        choose_output(network, settings.output)
        use_labels(network, images, settings)
        for side in network.image_size:
            if side % settings.grid:
                fits = [g for g in range(2, side + 1) if side % g == 0]
                raise ValueError(
                    f'grid={settings.grid} does not divide the {side} pixels of '
                    f'{network.label}; grids that do are {", ".join(map(str, fits))}'
                )


def use_labels(network: Network, images: AnalysisImages, settings: InteractionSettings) -> bool:
    """Whether v is the output for the label, not for the predicted class."""
    fit = images.labels is not None and len(images.classes) == network.num_classes > 0
    needed = settings.target == 'label' or settings.correct_only
    if needed and not fit:
        raise ValueError(
            f'{network.label} has {network.num_classes} classes, the images '
            f'{len(images.classes)}: labels cannot be used; take --target predicted without '
            '--correct-only'
        )
    return settings.correct_only or (fit and settings.target != 'predicted')


def image_pairs(settings: InteractionSettings, number: int) -> np.ndarray:
    """The pairs (P, 2) of image ``number``, the same for all orders and networks."""
    return neighbour_pairs(settings.grid, settings.pairs, _seed(settings, number))


def keep_present(image: Tensor, present: Tensor) -> Tensor:
    """Copies (B, C, H, W) of a normalized image in which the cells absent from (B, n) are 0."""
    grid = round(present.shape[1] ** 0.5)
    cells = present.view(-1, grid, grid).to(image.dtype)
    return image * upsample_mask(cells, (image.shape[-2], image.shape[-1])).unsqueeze(1)


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
        image: (C, H, W), normalized.
        number: Index of the image, which seeds pairs and contexts.
        settings: Of the measurement.
        advance: Called with the number of forward passes after each batch.

    Returns:
        ``pairs`` (P, 2); ``delta`` float32 (M, P, C), NaN for repetitions of the one empty or full
        context; ``scale``, the largest |v|, which sets the rounding error.
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


@torch.no_grad()
def measure_part(
    network: Network,
    images: AnalysisImages,
    settings: InteractionSettings,
    number: int,
    advance: Callable[[int], None],
) -> Mapping[str, np.ndarray]:
    """Δv of one image; empty arrays if it is misclassified and ``correct_only`` is set."""
    pixels = images.pixels(network.image_size, number, number + 1)
    batch = network.normalize(pixels)
    whole = network_outputs(network, batch)[0]
    label = int(whole.argmax())
    if images.labels is not None and use_labels(network, images, settings):
        given = int(images.labels[number])
        if settings.correct_only and given != label:
            return dict(pairs=np.empty(0), delta=np.empty(0), scale=np.zeros(()))
        label = given
    value = _value(network, settings, whole, label)
    return measure_image(value, batch[0], number, settings, advance)


def _value(
    network: Network, settings: InteractionSettings, whole: Tensor, label: int
) -> Callable[[Tensor], Tensor]:
    """v, from masked images to (B,)."""
    output = choose_output(network, settings.output)
    if output == FEATURE:
        return lambda batch: projection(network_outputs(network, batch), whole)
    return lambda batch: LOGIT_OUTPUTS[output](network_outputs(network, batch), label)


@dataclass(frozen=True)
class Measured:
    """One network: output, image indices (T,), pairs (T, P, 2), delta (T, M, P, C), estimate."""

    output: str
    images: np.ndarray
    pairs: np.ndarray
    delta: np.ndarray
    estimate: Estimate

    @property
    def summary(self) -> str:
        """J by order as text, or why it is undefined."""
        if np.isnan(self.estimate.relative).any():
            return 'no interactions beyond rounding, so J is not defined'
        curve = ' '.join(f'{value:.2f}' for value in self.estimate.relative)
        of = f'{self.estimate.interacting} of {len(self.images)} images have interactions'
        few = np.isnan(self.estimate.relative_interval).any()
        return f'J = {curve} ({of}{", too few for an interval" if few else ""})'


def measure_interactions(
    networks: Sequence[Network],
    images: AnalysisImages,
    settings: InteractionSettings,
    store: Path,
    advance: Callable[[int], None] = lambda passes: None,
) -> dict[str, Measured]:
    """Measure every network with the same pairs and contexts, by label.

    The folder ``store`` keeps each image and network; ``advance`` is called with the number of
    forward passes after each batch or stored image.

    Raises:
        ValueError: See ``check_networks``, or if ``correct_only`` leaves fewer than two images.
    """
    check_networks(networks, images, settings)
    return {
        network.label: _measure_network(network, images, settings, store, advance)
        for network in networks
    }


def interaction_rows(
    found: Mapping[str, Measured], settings: InteractionSettings
) -> list[dict[str, object]]:
    """A table row for each network and order."""
    return [
        dict(network=label, output=one.output, **row)
        for label, one in found.items()
        for row in estimate_rows(one.estimate, settings.orders, settings.grid**2)
    ]


def add_interaction_results(
    found: Mapping[str, Measured], settings: InteractionSettings, results: Results
) -> None:
    """Add arrays, one file of J per network, the table, and the figure."""
    arrays: dict[str, np.ndarray] = dict(
        labels=np.array(list(found)), orders=np.array(settings.orders)
    )
    for index, (label, one) in enumerate(found.items()):
        arrays |= {f'interactions_{index}': interactions(one.delta)}  # (T, M, P)
        arrays |= {f'pairs_{index}': one.pairs, f'images_{index}': one.images}
        arrays |= {f'J_{index}': one.estimate.relative, f'strength_{index}': one.estimate.strength}
        name = re.sub(r'[^\w.-]+', '_', label)
        path = results.folder / f'J_{name}.npy'
        write_atomically(path, partial(np.save, arr=one.estimate.relative))
    results.add_arrays('interactions', **arrays)
    results.add_table(interaction_rows(found, settings), 'interactions', CAPTION)
    estimates = {label: one.estimate for label, one in found.items()}
    figure = draw_interactions(estimates, settings.orders, settings.grid**2)
    results.add_figure(figure, 'interactions', CAPTION)


@torch.no_grad()
def passes_per_second(network: Network, settings: InteractionSettings) -> float:
    """Masked images per second of ``network``, from one batch after a warm-up batch."""
    image = torch.zeros(network.channels, *network.image_size, device=network.device)
    players = settings.grid**2
    present = torch.ones(settings.batch_size, players, dtype=torch.bool, device=network.device)
    starts = []
    for _ in range(2):
        starts.append(time.perf_counter())
        # item() waits for the device.
        network_outputs(network, keep_present(image, present)).sum().item()
    return settings.batch_size / (time.perf_counter() - starts[-1])


def _measure_network(
    network: Network,
    images: AnalysisImages,
    settings: InteractionSettings,
    folder: Path,
    advance: Callable[[int], None],
) -> Measured:
    store = open_store(folder, network, images, **_stored_settings(network, images, settings))
    parts = {}
    for number in range(len(images)):
        told: list[int] = []
        part = store.compute(
            f'image{number}',
            lambda number=number, told=told: measure_part(
                network,
                images,
                settings,
                number,
                lambda passes: told.append(passes) or advance(passes),
            ),
        )
        if not told:  # read from the store, or skipped
            advance(settings.passes_per_image)
        if part['delta'].size:
            parts[number] = part
    if len(parts) < 2:
        raise ValueError(
            f'{network.label} classifies {len(parts)} of {len(images)} images correctly; take more '
            '--num-images, or leave --correct-only out'
        )
    found = {key: np.stack([p[key] for p in parts.values()]) for key in ('pairs', 'delta', 'scale')}
    return Measured(
        choose_output(network, settings.output),
        np.array(list(parts)),
        found['pairs'],
        found['delta'],
        estimate_strength(found['delta'], float(found['scale'].max()), settings.seed),
    )


def _stored_settings(
    network: Network, images: AnalysisImages, settings: InteractionSettings
) -> dict[str, object]:
    return dict(
        grid=settings.grid,
        pairs=settings.pairs,
        contexts=settings.contexts,
        ratios=settings.ratios,
        output=choose_output(network, settings.output),
        label_of='image' if use_labels(network, images, settings) else 'network',
        correct_only=settings.correct_only,
        seed=settings.seed,
    )
