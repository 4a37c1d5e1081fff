"""Directions in the space of weights, and a network moved along them.

Reference:
    Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018
    (https://arxiv.org/abs/1712.09913).
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine import Config
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader, Subset

from a2mim.analysis.networks import RANDOM, source_name, split_label
from a2mim.analysis.results import PartStore, progress
from a2mim.models.classifier import ImageClassifier
from a2mim.registry import DATASETS, FUNCTIONS
from a2mim.weights.load_model import load_model_file

Weights = dict[str, Tensor]
NORMS = ('filter', 'layer', 'weight', 'dfilter', 'dlayer')
EPSILON = 1e-10  # of the published code; a filter of zeros stays where it is


def weights_of(model: nn.Module, kind: str = 'weights') -> Weights:
    """The tensors that a direction moves, not copied.

    Args:
        model: The network.
        kind: ``'weights'``: parameters; ``'states'``: floating buffers too, such as the running
            statistics of batch norm.
    """
    if kind == 'weights':
        return {name: parameter.data for name, parameter in model.named_parameters()}
    state = model.state_dict()
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def random_direction(
    weights: Mapping[str, Tensor], seed: int, *, norm: str = 'filter', ignore: str | None = 'biasbn'
) -> Weights:
    """A Gaussian direction in the scale of ``weights``.

    Args:
        weights: Where it starts.
        seed: Of the draw.
        norm: ``'filter'``: every slice along the first axis as long as that of the weights;
            ``'layer'``: every tensor so; ``'weight'``: every entry times its weight;
            ``'dfilter'``, ``'dlayer'``: slices or tensors of length 1.
        ignore: ``'biasbn'`` leaves tensors of one axis or none (biases, norms) where they are;
            None moves them by their own value, as the published code does.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, weight in weights.items():
        # Drawn on the CPU, so that a direction is the same on every device.
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        if weight.dim() <= 1:
            direction[name] = torch.zeros_like(weight) if ignore else weight.clone()
        else:
            direction[name] = _scaled(drawn, weight, norm)
    return direction


def _scaled(drawn: Tensor, weight: Tensor, norm: str) -> Tensor:
    if norm == 'weight':
        return drawn * weight
    axes = tuple(range(1, weight.dim())) if norm.endswith('filter') else tuple(range(weight.dim()))
    length = torch.linalg.vector_norm(drawn, dim=axes, keepdim=True)
    wanted = 1.0
    if not norm.startswith('d'):
        wanted = torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
    return drawn * (wanted / (length + EPSILON))


def line(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Weights:
    """The direction that leads from ``first`` (0) to ``second`` (1).

    Raises:
        ValueError: If they are weights of different networks.
    """
    for name in (*first, *second):
        shapes = [tuple(side[name].shape) if name in side else None for side in (first, second)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f'{name} has shape {shapes[0]} in the first network and {shapes[1]} in the second; '
                'a line needs two checkpoints of one architecture'
            )
    return {name: second[name].to(tensor) - tensor for name, tensor in first.items()}


@contextmanager
def displaced(
    weights: Mapping[str, Tensor], directions: Sequence[Mapping[str, Tensor]]
) -> Iterator['Mover']:
    """A ``Mover`` for ``weights``, which have their values back, bit for bit, afterwards."""
    origin = {name: weights[name].clone() for name in weights}
    try:
        yield Mover(weights, origin, directions)
    finally:
        _copy(origin, weights)


class Mover:
    """Put weights at ``origin`` plus steps along directions, in place."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        origin: Mapping[str, Tensor],
        directions: Sequence[Mapping[str, Tensor]],
    ) -> None:
        self.weights, self.origin, self.directions = weights, origin, directions

    @torch.no_grad()
    def go(self, *steps: float) -> None:
        """Take one step along each direction, from the origin."""
        _copy(self.origin, self.weights)
        for step, direction in zip(steps, self.directions, strict=True):
            for name, change in direction.items():
                self.weights[name].add_(change, alpha=step)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)


# [trajectory]
# The path of a run, seen in the two directions in which its checkpoints differ most.


MARGIN = 1.2  # of the grid around the path


@dataclass(frozen=True)
class Trajectory:
    """Checkpoints of a run as points.

    Attributes:
        directions: Two, scaled so that the path stays within -1 to 1 along both.
        points: (N, 2) float64, one for each checkpoint; the final weights are the origin.
        explained: (2,), share of the variance of the checkpoints along each.
    """

    directions: list[Weights]
    points: np.ndarray
    explained: np.ndarray


def run_checkpoints(folder: Path, prefix: str, first: int, last: int | None) -> list[Path]:
    """``PREFIX_EPOCH.pth`` in ``folder``, by epoch, from ``first`` to ``last``.

    Raises:
        ValueError: If there are fewer than three, which span no plane with the final weights.
    """
    pattern = re.compile(rf'{re.escape(prefix)}_(\d+)\.pth')
    found = {
        int(m[1]): path for path in folder.glob('*.pth') if (m := pattern.fullmatch(path.name))
    }
    epochs = [epoch for epoch in sorted(found) if epoch >= first and epoch <= (last or epoch)]
    if len(epochs) < 3:
        raise ValueError(
            f'{folder} has {len(epochs)} checkpoints {prefix}_EPOCH.pth of the asked epochs; a '
            'trajectory needs 3 or more: train with default_hooks.checkpoint.max_keep_ckpts=-1'
        )
    return [found[epoch] for epoch in epochs]


def find_trajectory(
    final: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]]
) -> Trajectory:
    """Principal directions of the differences to the final weights (Li et al. 2018, section 7).

    Raises:
        ValueError: If a checkpoint is of another network, or all are the same.
    """
    rows = [
        torch.cat([part.flatten() for part in line(final, each).values()]) for each in checkpoints
    ]
    differences = torch.stack(rows).double().cpu().numpy()  # (N, weights)
    if not differences.any():
        raise ValueError('all checkpoints have the final weights; there is no trajectory')
    pca = PCA(2, svd_solver='full').fit(differences)
    points = differences @ pca.components_.T
    extent = MARGIN * np.abs(points).max(axis=0).clip(min=1e-12)
    directions = [_unflatten(row, final) for row in pca.components_ * extent[:, None]]
    return Trajectory(directions, points / extent, pca.explained_variance_ratio_)


def _unflatten(row: np.ndarray, like: Mapping[str, Tensor]) -> Weights:
    parts = torch.from_numpy(row).split([tensor.numel() for tensor in like.values()])
    return {
        name: part.view(tensor.shape).to(tensor)
        for (name, tensor), part in zip(like.items(), parts, strict=True)
    }


# [draw]
# Figures of loss surfaces: curves along a direction, contours over two.


Surface = Mapping[str, np.ndarray]  # ``loss``, and of a classifier ``top1``


def draw_curves(
    steps: np.ndarray, surfaces: Mapping[str, Surface], *, log: bool = False, top: float = 5.0
) -> Figure:
    """Loss (left axis, up to ``top``) and accuracy (right axis) of networks along a direction."""
    figure = Figure(figsize=(5.5, 3.5 + 0.2 * len(surfaces)), layout='constrained')
    axes = figure.add_subplot(xlabel='step along the direction', ylabel='loss')
    right = None
    for number, (label, surface) in enumerate(surfaces.items()):
        style = dict(color=f'C{number}')
        axes.plot(steps, surface['loss'], marker='.', label=f'{label}, loss', **style)
        if 'top1' in surface:
            right = right or axes.twinx()
            right.plot(steps, surface['top1'], linestyle='--', label=f'{label}, top-1', **style)
    if log:
        axes.set_yscale('log')
    else:
        lowest = min(float(np.nanmin(surface['loss'])) for surface in surfaces.values())
        axes.set_ylim(0, max(top, 1.1 * lowest))
    lines = axes.get_lines()
    if right is not None:
        right.set(ylabel='top-1 accuracy in %', ylim=(0, 100))
        lines = [line for pair in zip(lines, right.get_lines(), strict=True) for line in pair]
    figure.legend(handles=lines, loc='outside upper center', ncols=2, fontsize=8)
    return figure


def draw_contours(
    steps: tuple[np.ndarray, np.ndarray], surfaces: Mapping[str, Surface], levels: np.ndarray
) -> Figure:
    """Contours of the loss (X, Y), a panel for each network."""
    figure = Figure(figsize=(4.2 * len(surfaces) + 0.8, 4.2), layout='constrained')
    panels = figure.subplots(1, len(surfaces), squeeze=False, sharey=True)[0]
    for panel, (label, surface) in zip(panels, surfaces.items(), strict=True):
        lines = panel.contour(*steps, surface['loss'].T, levels=levels)
        panel.set_title(label, fontsize=9)
        panel.set_xlabel('step along the first direction')
    panels[0].set_ylabel('step along the second direction')
    figure.colorbar(lines, ax=panels.tolist(), label='loss')
    return figure


def draw_trajectory(
    path: Trajectory,
    steps: tuple[np.ndarray, np.ndarray] | None,
    surface: Surface | None,
    levels: np.ndarray,
) -> Figure:
    """The path of a run, over the contours of its loss (X, Y) where they were measured."""
    figure = Figure(figsize=(5, 4.2), layout='constrained')
    names = [
        f'step along the {which} direction ({100 * share:.0f} % of variance)'
        for which, share in zip(('first', 'second'), path.explained, strict=True)
    ]
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
    if surface is not None:
        lines = axes.contour(*steps, surface['loss'].T, levels=levels)
        figure.colorbar(lines, ax=axes, label='loss')
    axes.plot(*path.points.T, color='C3', marker='.', label='checkpoints')
    axes.plot(0, 0, color='black', marker='*', linestyle='', label='final weights')
    axes.legend()
    return figure


# [loss]
# Loss and accuracy of a network on images that are read once and kept as bytes.
#
# Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.


LARGEST = 4 << 30  # bytes of images that are kept


def fixed_batches(cfg: Config, number: int | None, seed: int = 0) -> list[dict]:
    """Validation images of ``cfg``, or of a pre-training config, images with their masks.

    Args:
        cfg: A config of ours.
        number: How many, chosen by ``seed``; None for all validation images, or 256 training ones.
        seed: Of the choice, and of crops and masks of pre-training.

    Raises:
        ValueError: If there are fewer images than ``number``, or they take more than 4 GiB.
    """
    labelled = bool(cfg.get('val_dataloader'))
    loader = cfg.val_dataloader if labelled else cfg.train_dataloader
    options = dict(loader.dataset) if labelled else {**loader.dataset, 'seed': seed}
    dataset = DATASETS.build(options)
    if number is None:
        number = len(dataset) if labelled else min(256, len(dataset))
    if not 1 <= number <= len(dataset):
        raise ValueError(f'{number} images were asked for; give 1 to {len(dataset)}')
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:number]).tolist()
    batches, size = [], 0
    loading = DataLoader(
        Subset(dataset, chosen),
        batch_size=loader.batch_size,
        num_workers=loader.get('num_workers', 0),
        collate_fn=FUNCTIONS.get(loader.collate_fn.type),
    )
    for batch in loading:
        size += batch['image'].nbytes
        if size > LARGEST:
            raise ValueError(f'{number} images take more than 4 GiB; give a smaller --num-images')
        batches.append(batch)
    return batches


class LossOnSet:
    """Mean loss, and for classifiers top-1 in per cent, over batches.

    Args:
        model: ``ImageClassifier``, or one whose ``loss`` takes images and masks; in evaluation
            mode, so that batch norm uses its running statistics.
        batches: What ``fixed_batches`` returns.

    Raises:
        ValueError: If a classifier gets images without labels.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Mapping[str, Tensor]]) -> None:
        self.model, self.batches = model.eval(), batches
        self.classifies = isinstance(model, ImageClassifier)
        needed = 'label' if self.classifies else 'mask'
        if needed not in batches[0]:
            raise ValueError(
                f'{type(model).__name__} needs images with a {needed}, which the config does not '
                'give; take the config that the checkpoint was trained with'
            )

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """``loss``, and ``top1`` of a classifier, of the weights as they are now."""
        sums: dict[str, float] = {}
        for batch in self.batches:
            data = self.model.data_preprocessor(dict(batch))
            for name, value in self._of_batch(data).items():
                sums[name] = sums.get(name, 0.0) + value * len(data['image'])
        number = sum(len(batch['image']) for batch in self.batches)
        return {name: value / number for name, value in sums.items()}

    def _of_batch(self, data: Mapping[str, Tensor]) -> dict[str, float]:
        if not self.classifies:
            losses = self.model.loss(data['image'], data['mask'])
            return dict(loss=sum(float(value) for name, value in losses.items() if 'loss' in name))
        logits = self.model.logits(data['image'])
        hits = logits.argmax(dim=1) == data['label']
        loss = float(self.model.classifier_loss(logits, data['label']))
        return dict(loss=loss, top1=100.0 * float(hits.float().mean()))


# [network]
# A network of a landscape: the model of a config, with the weights of a file or random ones.


def label_of(text: str) -> str:
    """What figures call ``[LABEL=][random:]FILE``: LABEL, or FILE without folders and suffix."""
    label, source = split_label(text)
    return label or source_name(source)


def read_network(text: str, cfg: Config, seed: int = 0) -> nn.Module:
    """The model of ``cfg`` with the weights of ``[LABEL=][random:]FILE``.

    Args:
        text: After ``random:``, FILE must be there, but its weights are not taken.
        cfg: Of the model; what FILE says of itself does not count.
        seed: Of random weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or one of another model.
    """
    source = split_label(text)[1]
    path = Path(source.removeprefix(RANDOM))
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    torch.manual_seed(seed)
    pretrained = not source.startswith(RANDOM)
    return load_model_file(path, cfg.to_dict(), None, pretrained=pretrained)


# [surface]
# Loss on a grid of steps along one direction or two, point by point, so that it can go on.


@dataclass(frozen=True)
class Axis:
    """Equal steps from ``first`` to ``last``, both included."""

    first: float
    last: float
    number: int

    def steps(self) -> np.ndarray:
        """Where the grid has points, (number,) float64."""
        return np.linspace(self.first, self.last, self.number)


def parse_axis(text: str) -> Axis:
    """``-1:1:51`` to 51 steps from -1 to 1.

    Raises:
        ValueError: If it is not FIRST:LAST:NUMBER with FIRST below LAST and NUMBER from 2 on.
    """
    try:
        first, last, number = text.split(':')
        axis = Axis(float(first), float(last), int(number))
    except ValueError:
        raise ValueError(f'grid {text!r} must be FIRST:LAST:NUMBER, such as -1:1:51') from None
    if axis.number < 2:
        raise ValueError(f'grid {text!r} has {axis.number} points; give 2 or more')
    if not (math.isfinite(axis.first) and math.isfinite(axis.last) and axis.first < axis.last):
        raise ValueError(f'grid {text!r}: the first value must be below the last, both finite')
    return axis


def open_shared_store(folder: Path, label: str, settings: Mapping[str, object]) -> PartStore:
    """A store that all processes of a group write to; the first one makes the folder."""
    together = dist.is_initialized()
    if together and dist.get_rank():
        dist.barrier()
    store = PartStore(folder, label, settings)
    if together and not dist.get_rank():
        dist.barrier()
    if together:
        dist.barrier()  # nobody cleans up while another one writes
    return store


def measure_surface(
    weights: Mapping[str, Tensor],
    directions: Sequence[Mapping[str, Tensor]],
    axes: Sequence[Axis],
    measure: Callable[[], Mapping[str, float]],
    store: PartStore,
    label: str = 'points',
) -> dict[str, np.ndarray]:
    """What ``measure`` says of the network at every point of the grid.

    Points are shared among the processes of a group, if there is one; every process returns all.

    Args:
        weights: Tensors of the network, moved in place and put back.
        directions: One for each axis.
        axes: One or two.
        measure: Numbers by name of the network as it is now.
        store: Where each point goes.
        label: Of the progress.

    Returns:
        An array for each name, (X,) or (X, Y).
    """
    shape = tuple(axis.number for axis in axes)
    points = list(np.ndindex(shape))
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    steps = [axis.steps() for axis in axes]
    found = {}
    with displaced(weights, directions) as mover:
        for point in progress(points[rank::processes], label):

            def part(point: tuple[int, ...] = point) -> dict[str, np.ndarray]:
                mover.go(*(float(values[i]) for values, i in zip(steps, point, strict=True)))
                return {name: np.asarray(value) for name, value in measure().items()}

            found[point] = store.compute('_'.join(f'{i:04d}' for i in point), part)
    if processes > 1:
        parts: list = [None] * processes
        dist.all_gather_object(parts, found)
        found = {point: values for part in parts for point, values in part.items()}
    names = found[points[0]]
    return {
        name: np.array([found[point][name] for point in points]).reshape(shape) for name in names
    }
