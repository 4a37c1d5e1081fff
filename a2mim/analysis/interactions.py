"""Whether networks, images and settings fit each other, before anything is measured."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import Subject, open_store, pooled_features
from a2mim.masking import upsample_mask

# [outputs]
# The scalar v of a network whose interactions are measured.
#
# Axes: B batch, K classes, D features.


FEATURE = 'feature'


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


def choose_output(subject: Subject, wanted: str | None) -> str:
    """``wanted``, or by default ``'modified'`` for a classifier and ``'feature'`` for a trunk.

    Raises:
        ValueError: If there is no such output, or the network does not have it.
    """
    trunk = subject.num_classes == 0
    if wanted is None:
        return FEATURE if trunk else 'modified'
    if wanted not in OUTPUTS:
        raise ValueError(f'output={wanted!r} is none of {", ".join(OUTPUTS)}')
    if trunk and wanted != FEATURE:
        raise ValueError(
            f'{subject.label} has no classifier, so it has no output {wanted!r}; take {FEATURE!r}, '
            'or fine-tune it first'
        )
    if not trunk and wanted == FEATURE:
        raise ValueError(
            f'{subject.label} is a classifier; {FEATURE!r} is for trunks: take one of '
            f'{", ".join(LOGIT_OUTPUTS)}'
        )
    return wanted


def network_outputs(subject: Subject, batch: Tensor) -> Tensor:
    """Logits (B, K) of a classifier, features averaged over positions (B, D) of a trunk.

    Double precision: an interaction is a small difference of four large numbers.
    """
    found = subject.model(batch) if subject.num_classes else pooled_features(subject, batch)
    return found.double()


def projection(features: Tensor, whole: Tensor) -> Tensor:
    """Length of ``features`` (B, D) along those of the whole image (D,): (B,).

    Linear in the features, as a logit is: the logit of a classifier without bias whose weights
    for "this image" are the image's own features, scaled to length 1.
    """
    return features @ F.normalize(whole, dim=0)


# [players]
# Pairs of image patches, and the contexts in which they meet.
#
# Axes: n players (cells of a g×g grid, row by row), P pairs, R rows (one pair in one context).
#
# Reference:
# Deng et al., Discovering and explaining the representation bottleneck of DNNs, ICLR 2022
# (https://arxiv.org/abs/2111.06236), section 3 and its published settings.


RADIUS = 2  # cells between the two of a pair, at most, along either axis


def orders_of(ratios: Sequence[float], grid: int) -> tuple[int, ...]:
    """Context sizes ``int((n - 2) · ratio)`` of a grid×grid image.

    Raises:
        ValueError: If the grid has no context, a ratio is outside [0, 1], or two ratios give the
            same order.
    """
    if grid < 2:
        raise ValueError(f'grid={grid} must be at least 2: a pair needs players beside it')
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
    """Distinct unordered pairs of cells that lie at most ``RADIUS`` apart along both axes."""
    near = sum(max(grid - step, 0) * (1 if step == 0 else 2) for step in range(RADIUS + 1))
    # near² counts ordered pairs, each cell with itself among them.
    return (near * near - grid * grid) // 2


def neighbour_pairs(grid: int, number: int, seed: int) -> np.ndarray:
    """Different pairs of neighbours, int64 (P, 2), as the published settings draw them.

    The first cell is uniform, the second a uniform offset of up to ``RADIUS`` cells away, moved
    back onto the grid where it lies outside: cells at the border are chosen more often.

    Raises:
        ValueError: If there are fewer than ``number`` pairs.
    """
    there_are = num_neighbour_pairs(grid)
    if not 1 <= number <= there_are:
        raise ValueError(
            f'pairs={number}: a {grid}×{grid} grid has {there_are} pairs of patches at most '
            f'{RADIUS} apart; ask for 1 to {there_are}'
        )
    rng = np.random.default_rng(seed)
    pairs: dict[frozenset[int], tuple[int, int]] = {}
    while len(pairs) < number:
        first = rng.integers(grid, size=2)
        second = np.clip(first + rng.integers(-RADIUS, RADIUS + 1, size=2), 0, grid - 1)
        pair = tuple(int(cell[0] * grid + cell[1]) for cell in (first, second))
        if pair[0] != pair[1]:
            pairs.setdefault(frozenset(pair), pair)
    return np.array(list(pairs.values()))


def sample_contexts(pairs: Tensor, order: int, players: int, seed: int) -> Tensor:
    """For every row a uniform subset of ``order`` players without the pair, bool (R, n).

    All rows are drawn at once, so that the result does not depend on the size of a batch.

    Args:
        pairs: (R, 2), the players that are left out.
        order: Size of a context, 0 to n - 2.
        players: n.
        seed: The same gives the same contexts on the same kind of device.
    """
    generator = torch.Generator(pairs.device).manual_seed(seed)
    # The ``order`` smallest of independent uniform numbers are a uniform subset.
    shape = (len(pairs), players)
    scores = torch.rand(shape, generator=generator, device=pairs.device, dtype=torch.float64)
    scores.scatter_(1, pairs, 2.0)
    chosen = scores.argsort(dim=1)[:, :order]
    return torch.zeros(shape, dtype=torch.bool, device=pairs.device).scatter_(1, chosen, True)


def four_presences(contexts: Tensor, pairs: Tensor) -> Tensor:
    """Who is present in S∪{i,j}, S∪{i}, S∪{j} and S, bool (R, 4, n)."""
    present = contexts[:, None].repeat(1, 4, 1)
    rows = torch.arange(len(pairs), device=pairs.device)
    first, second = pairs.unbind(1)
    present[rows, 0, first] = present[rows, 1, first] = True
    present[rows, 0, second] = present[rows, 2, second] = True
    return present


# [settings]
# What a measurement of interactions depends on.


PUBLISHED_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
TARGETS = ('auto', 'label', 'predicted')


@dataclass(frozen=True)
class InteractionSettings:
    """Numbers and choices; the defaults are the published ones for ImageNet.

    Attributes:
        grid: g, cells along either side; n = g² players.
        pairs: Per image.
        contexts: Per pair and order. The empty and the full context exist once and are measured
            once.
        ratios: Sizes of contexts as shares of the n - 2 other players.
        output: See ``outputs.py``; None: 'modified' for a classifier, 'feature' for a trunk.
        target: Whose logit: of the label, of the class predicted on the whole image, or 'auto':
            the label where images have some and there are as many classes as logits.
        correct_only: Leave out what a network classifies wrongly.
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


def check_subjects(
    subjects: Sequence[Subject], images: AnalysisImages, settings: InteractionSettings
) -> None:
    """Refuse what could only fail after a while.

    Raises:
        ValueError: If the grid does not divide an image, there are fewer than two images, or a
            network lacks the output or the classes.
    """
    if len(images) < 2:
        raise ValueError(f'{len(images)} image: confidence intervals need at least 2 --num-images')
    for subject in subjects:
        choose_output(subject, settings.output)
        use_labels(subject, images, settings)
        for side in subject.image_size:
            if side % settings.grid:
                fits = [g for g in range(2, side + 1) if side % g == 0]
                raise ValueError(
                    f'grid={settings.grid} does not divide the {side} pixels of '
                    f'{subject.label}; grids that do are {", ".join(map(str, fits))}'
                )


def use_labels(subject: Subject, images: AnalysisImages, settings: InteractionSettings) -> bool:
    """Whether v is that of the label, not of the predicted class.

    Raises:
        ValueError: If labels are needed and there are none that fit.
    """
    fit = images.labels is not None and len(images.classes) == subject.num_classes > 0
    needed = settings.target == 'label' or settings.correct_only
    if needed and not fit:
        raise ValueError(
            f'{subject.label} has {subject.num_classes} classes, the images '
            f'{len(images.classes)}: labels cannot be used; take --target predicted without '
            '--correct-only'
        )
    return settings.correct_only or (fit and settings.target != 'predicted')


# [estimate]
# Strength of interactions by order, with confidence intervals.
#
# Axes: T images, M orders, P pairs, C contexts.


BOOTSTRAPS = 1000
CONFIDENCE = 0.95
ROUNDING = 1e-5  # of |v|: what single precision leaves of an interaction that is none


@dataclass(frozen=True)
class Estimate:
    """Of one network, (M,) where no shape is said.

    Attributes:
        strength: Î, mean over images and pairs of |I|, in units of v.
        strength_interval: (2, M), low and high.
        relative: J, strength over its mean over orders, dimensionless; NaN if no pair
            interacts beyond rounding.
        relative_interval: (2, M), low and high; NaN also if so few pairs interact that a bootstrap
            draw may hold none.
        chance: The strength that the finite number of contexts would show if every I were 0.
        interacting: Images in which any pair interacts beyond rounding.
    """

    strength: np.ndarray
    strength_interval: np.ndarray
    relative: np.ndarray
    relative_interval: np.ndarray
    chance: np.ndarray
    interacting: int


def interactions(delta: np.ndarray) -> np.ndarray:
    """I: Δv (..., C) averaged over the contexts that were measured, (...)."""
    return np.nanmean(delta.astype(np.float64), axis=-1)


def estimate_strength(delta: np.ndarray, scale: float, seed: int = 0) -> Estimate:
    """Means and 95 % bootstrap intervals over images and pairs.

    An image is drawn with replacement, then pairs of it, the same for all orders. With 25 images
    such intervals held the truth in 92 % of 150 trials.

    Args:
        delta: Δv (T, M, P, C), NaN where not measured.
        scale: Largest |v|.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there are fewer than two images.
    """
    if len(delta) < 2:
        raise ValueError(f'{len(delta)} image: a confidence interval needs at least 2')
    magnitude = np.abs(interactions(delta))  # (T, M, P)
    strength = magnitude.mean(axis=(0, 2))
    drawn = _bootstrap(magnitude, seed)  # (BOOTSTRAPS, M)
    tail = (1 - CONFIDENCE) / 2
    limits = (tail, 1 - tail)
    interacting = int((magnitude > ROUNDING * scale).any(axis=(1, 2)).sum())
    relative, interval = _relative(strength, drawn, limits, interacting)
    return Estimate(
        strength,
        np.quantile(drawn, limits, axis=0),
        relative,
        interval,
        _chance(delta),
        interacting,
    )


def _relative(
    strength: np.ndarray, drawn: np.ndarray, limits: tuple[float, float], interacting: int
) -> tuple[np.ndarray, np.ndarray]:
    """J and its interval; NaN where no pair interacts, the interval also if none of a draw does."""
    undefined = np.full_like(strength, np.nan)
    if not interacting:
        return undefined, np.stack([undefined, undefined])
    means = drawn.mean(axis=1, keepdims=True)
    if not means.all():
        return strength / strength.mean(), np.stack([undefined, undefined])
    return strength / strength.mean(), np.quantile(drawn / means, limits, axis=0)


def _bootstrap(magnitude: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    images, _, pairs = magnitude.shape
    by_pair = magnitude.transpose(0, 2, 1)  # (T, P, M)
    means = []
    for _ in range(BOOTSTRAPS):
        image = rng.integers(images, size=(images, 1))
        means.append(by_pair[image, rng.integers(pairs, size=(images, pairs))].mean(axis=(0, 1)))
    return np.stack(means)


def _chance(delta: np.ndarray) -> np.ndarray:
    """Mean of |N(0, s)| is s √(2/π); s is the standard error of I, 0 for a single context."""
    count = (~np.isnan(delta)).sum(axis=-1)
    centred = delta - np.nanmean(delta, axis=-1, keepdims=True)
    variance = np.nansum(centred**2, axis=-1) / np.maximum(count - 1, 1) / count
    return np.sqrt(2 / np.pi) * np.sqrt(variance).mean(axis=(0, 2))


def estimate_rows(found: Estimate, orders: Sequence[int], players: int) -> list[dict]:
    """One row of a table for each order; ``share`` is of the n - 2 players beside the pair."""
    rows = []
    for index, order in enumerate(orders):
        row = dict(order=order, share=order / (players - 2))
        for short, name in (('J', 'relative'), ('I', 'strength')):
            low, high = getattr(found, f'{name}_interval')[:, index]
            row |= {short: getattr(found, name)[index], f'{short}_low': low, f'{short}_high': high}
        rows.append({**row, 'I_chance': found.chance[index]})
    return rows


# [draw]
# Curves of relative strength over the order.


def draw_interactions(
    estimates: Mapping[str, Estimate], orders: Sequence[int], players: int
) -> Figure:
    """J with its interval, one curve for each network that has one.

    Args:
        estimates: By label.
        orders: Sizes of contexts, patches.
        players: n.
    """
    figure = Figure(figsize=(6.4, 4.2), layout='constrained')
    axes = figure.add_subplot()
    rest = players - 2
    share = [order / rest for order in orders]
    for label, found in estimates.items():
        remark, style = _remark(found)
        (line,) = axes.plot(
            share, found.relative, style, marker='o', markersize=3, label=f'{label}{remark}'
        )
        low, high = found.relative_interval
        axes.fill_between(share, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(1, color='grey', linewidth=0.8, linestyle=':')
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f'order: share of the {rest} other patches in the context')
    axes.set_ylabel('relative interaction strength J')
    axes.legend(frameon=False)
    top = axes.secondary_xaxis('top', functions=(lambda x: x * rest, lambda x: x / rest))
    top.set_xlabel('patches')
    return figure


def _remark(found: Estimate) -> tuple[str, str]:
    """What the legend adds to the label, and the style of the line."""
    if np.isnan(found.relative).any():
        return ' (no interactions)', '-'
    if np.isnan(found.relative_interval).any():
        return f' (no interval: {found.interacting} image(s) interact)', '--'
    return '', '-'


# [measure]
# Differences Δv(i,j,S) of one network on one image.
#
# Axes: M orders, P pairs, C contexts, R rows (one pair in one context), n players, B batch.


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


# [image_part]
# The interactions of one network on one of the images: its output for its class, and Δv.


@torch.no_grad()
def measure_part(
    subject: Subject,
    images: AnalysisImages,
    settings: InteractionSettings,
    number: int,
    advance: Callable[[int], None],
) -> Mapping[str, np.ndarray]:
    """The differences of one image; none if it should be classified correctly and is not."""
    pixels = images.pixels(subject.image_size, number, number + 1)
    batch = subject.normalise(pixels)
    whole = network_outputs(subject, batch)[0]
    label = int(whole.argmax())
    if use_labels(subject, images, settings):
        given = int(images.labels[number])
        if settings.correct_only and given != label:
            return dict(pairs=np.empty(0), delta=np.empty(0), scale=np.zeros(()))
        label = given
    value = _value(subject, settings, whole, label)
    return measure_image(value, batch[0], number, settings, advance)


def _value(
    subject: Subject, settings: InteractionSettings, whole: Tensor, label: int
) -> Callable[[Tensor], Tensor]:
    """v, from masked images to (B,)."""
    output = choose_output(subject, settings.output)
    if output == FEATURE:
        return lambda batch: projection(network_outputs(subject, batch), whole)
    return lambda batch: LOGIT_OUTPUTS[output](network_outputs(subject, batch), label)


# [subjects]
# Interactions of several networks on the same images, one part for each image and network.
#
# Axes: T images, M orders, P pairs, C contexts.


@dataclass(frozen=True)
class Measured:
    """One network: ``delta`` (T, M, P, C), ``pairs`` (T, P, 2), which images, and the estimate."""

    output: str
    images: np.ndarray
    pairs: np.ndarray
    delta: np.ndarray
    estimate: Estimate


def measure_interactions(
    subjects: Sequence[Subject],
    images: AnalysisImages,
    settings: InteractionSettings,
    store: Path,
    advance: Callable[[int], None] = lambda passes: None,
) -> dict[str, Measured]:
    """What each network measures, by label; images that are in ``store`` are not measured again.

    Args:
        subjects: The networks; pairs and contexts are the same for all.
        images: The same for all.
        settings: Numbers and choices.
        store: Folder of the parts.
        advance: Told the number of forward passes after each batch, and of each stored image.

    Raises:
        ValueError: See ``check_subjects``, or if ``correct_only`` leaves fewer than two images.
    """
    check_subjects(subjects, images, settings)
    return {
        subject.label: _measure_subject(subject, images, settings, store, advance)
        for subject in subjects
    }


def file_name(label: str) -> str:
    """``label`` as the name of a file."""
    return re.sub(r'[^\w.-]+', '_', label)


@torch.no_grad()
def passes_per_second(subject: Subject, settings: InteractionSettings) -> float:
    """Masked images that ``subject`` takes in a second, from one batch after another to warm up."""
    image = torch.zeros(subject.channels, *subject.image_size, device=subject.device)
    players = settings.grid**2
    present = torch.ones(settings.batch_size, players, dtype=torch.bool, device=subject.device)
    for _ in range(2):
        start = time.perf_counter()
        # The sum waits for the device.
        network_outputs(subject, keep_present(image, present)).sum().item()
        seconds = time.perf_counter() - start
    return settings.batch_size / seconds


def _measure_subject(
    subject: Subject,
    images: AnalysisImages,
    settings: InteractionSettings,
    folder: Path,
    advance: Callable[[int], None],
) -> Measured:
    store = open_store(folder, subject, images, **_stored_settings(subject, images, settings))
    parts = {}
    for number in range(len(images)):
        told = []
        part = store.compute(
            f'image{number}',
            lambda number=number, told=told: measure_part(
                subject,
                images,
                settings,
                number,
                lambda passes: told.append(passes) or advance(passes),
            ),
        )
        if not told:  # from the store, or left out
            advance(settings.passes_per_image)
        if part['delta'].size:
            parts[number] = part
    if len(parts) < 2:
        raise ValueError(
            f'{subject.label} classifies {len(parts)} of {len(images)} images correctly; take more '
            '--num-images, or leave --correct-only out'
        )
    found = {key: np.stack([p[key] for p in parts.values()]) for key in ('pairs', 'delta', 'scale')}
    return Measured(
        choose_output(subject, settings.output),
        np.array(list(parts)),
        found['pairs'],
        found['delta'],
        estimate_strength(found['delta'], float(found['scale'].max()), settings.seed),
    )


def _stored_settings(
    subject: Subject, images: AnalysisImages, settings: InteractionSettings
) -> dict[str, object]:
    return dict(
        grid=settings.grid,
        pairs=settings.pairs,
        contexts=settings.contexts,
        ratios=settings.ratios,
        output=choose_output(subject, settings.output),
        label_of='image' if use_labels(subject, images, settings) else 'network',
        correct_only=settings.correct_only,
        seed=settings.seed,
    )
