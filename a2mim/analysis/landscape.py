"""Loss of a network on a grid of weights: directions, displaced weights, and the surface.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks; X, Y grid steps.

Reference:
    Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018
    (https://arxiv.org/abs/1712.09913).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from mmengine import Config
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader, Subset

from a2mim.analysis.networks import RANDOM, source_name, split_label
from a2mim.analysis.results import PartStore, progress
from a2mim.interfaces import Algorithm
from a2mim.models.classifier import ImageClassifier
from a2mim.registry import DATASETS, FUNCTIONS
from a2mim.weights.load_model import load_model_file

Weights = dict[str, Tensor]
NORMS = ('filter', 'layer', 'weight', 'dfilter', 'dlayer')
EPSILON = 1e-10  # of the reference implementation; keeps a filter of zeros
LARGEST = 4 << 30  # bytes of images in memory


def weights_of(model: nn.Module, kind: str = 'weights') -> Weights:
    """The tensors that a direction moves, not copied.

    ``'weights'`` are the parameters; ``'states'`` adds floating-point buffers, such as the running
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
        weights: The origin.
        seed: Of the random numbers.
        norm: ``'filter'``: every slice along the first axis has the norm of that of the weights;
            ``'layer'``: every tensor has; ``'weight'``: every entry is multiplied by its weight;
            ``'dfilter'``, ``'dlayer'``: slices or tensors have norm 1.
        ignore: ``'biasbn'`` does not move tensors of one axis or none (biases, norms); None moves
            them by their own value, as the reference implementation does.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, weight in weights.items():
        # Drawn on the CPU: the same direction on every device.
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
    """The direction from ``first`` (0) to ``second`` (1).

    Raises:
        ValueError: If they are weights of different architectures.
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
) -> Iterator[Callable[..., None]]:
    """Yield a function that sets ``weights`` to one step along each direction from the origin.

    The weights are restored bit for bit on exit.
    """
    origin = {name: weights[name].clone() for name in weights}

    @torch.no_grad()
    def restore() -> None:
        for name, tensor in origin.items():
            weights[name].copy_(tensor)

    @torch.no_grad()
    def move(*steps: float) -> None:
        restore()
        for step, direction in zip(steps, directions, strict=True):
            for name, change in direction.items():
                weights[name].add_(change, alpha=step)

    try:
        yield move
    finally:
        restore()


def fixed_batches(cfg: Config, number: int | None, seed: int = 0) -> list[dict]:
    """Validation images of ``cfg``; of a pre-training config, training images with their masks.

    ``number`` None takes all validation images, or 256 training images; ``seed`` also determines
    crops and masks of pre-training.

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
        collate_fn=cast(Callable, FUNCTIONS.get(loader.collate_fn.type)),
    )
    for batch in loading:
        size += batch['image'].nbytes
        if size > LARGEST:
            raise ValueError(f'{number} images take more than 4 GiB; give a smaller --num-images')
        batches.append(batch)
    return batches


class LossOnSet:
    """Mean loss over batches, and top-1 in per cent of a classifier, in evaluation mode.

    Args:
        model: ``ImageClassifier``, or one whose ``loss`` takes images and masks.
        batches: From ``fixed_batches``.

    Raises:
        ValueError: If the images lack the labels or masks that the model needs.
    """

    def __init__(self, model: Algorithm, batches: Sequence[Mapping[str, Tensor]]) -> None:
        self.model, self.batches = model.eval(), batches
        needed = 'label' if isinstance(model, ImageClassifier) else 'mask'
        if needed not in batches[0]:
            raise ValueError(
                f'{type(model).__name__} needs images with a {needed}, which the config does not '
                'give; take the config that the checkpoint was trained with'
            )

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """``loss``, and ``top1`` of a classifier, with the present weights."""
        sums: dict[str, float] = {}
        for batch in self.batches:
            data = self.model.data_preprocessor(dict(batch))
            for name, value in self._of_batch(data).items():
                sums[name] = sums.get(name, 0.0) + value * len(data['image'])
        number = sum(len(batch['image']) for batch in self.batches)
        return {name: value / number for name, value in sums.items()}

    def _of_batch(self, data: Mapping[str, Tensor]) -> dict[str, float]:
        if not isinstance(self.model, ImageClassifier):
            losses = cast(Callable, self.model.loss)(data['image'], data['mask'])
            return dict(loss=sum(float(value) for name, value in losses.items() if 'loss' in name))
        logits = self.model.logits(data['image'])
        hits = logits.argmax(dim=1) == data['label']
        loss = float(self.model.classifier_loss(logits, data['label']))
        return dict(loss=loss, top1=100.0 * float(hits.float().mean()))


def label_of(text: str) -> str:
    """Label of ``[LABEL=][random:]FILE``: LABEL, or FILE without folders and suffix."""
    label, source = split_label(text)
    return label or source_name(source)


def read_model(text: str, cfg: Config, seed: int = 0) -> Algorithm:
    """The model of ``cfg`` with the weights of ``[LABEL=][random:]FILE``.

    With ``random:``, FILE must exist but is not loaded. The config in FILE is ignored.
    """
    source = split_label(text)[1]
    path = Path(source.removeprefix(RANDOM))
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    torch.manual_seed(seed)
    pretrained = not source.startswith(RANDOM)
    return cast(Algorithm, load_model_file(path, cfg.to_dict(), None, pretrained=pretrained))


@dataclass(frozen=True)
class Axis:
    """``number`` equal steps from ``first`` to ``last``, both included."""

    first: float
    last: float
    number: int

    def steps(self) -> np.ndarray:
        """Grid points, (number,) float64."""
        return np.linspace(self.first, self.last, self.number)


def parse_axis(text: str) -> Axis:
    """Read FIRST:LAST:NUMBER, such as ``-1:1:51``; raise a ValueError for anything else."""
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
    """A store that all ranks write to; rank 0 creates the folder."""
    together = dist.is_initialized()
    if together and dist.get_rank():
        dist.barrier()
    store = PartStore(folder, label, settings)
    if together and not dist.get_rank():
        dist.barrier()
    if together:
        dist.barrier()  # creating a store deletes partial files: no rank may write yet
    return store


def measure_surface(
    weights: Mapping[str, Tensor],
    directions: Sequence[Mapping[str, Tensor]],
    axes: Sequence[Axis],
    measure: Callable[[], Mapping[str, float]],
    store: PartStore,
    label: str = 'points',
) -> dict[str, np.ndarray]:
    """Call ``measure`` at every point of a grid of one or two axes; arrays (X,) or (X, Y) by name.

    The tensors ``weights`` are moved in place and restored. The ranks of a process group share the
    points; every rank returns all. ``store`` saves each point.
    """
    shape = tuple(axis.number for axis in axes)
    points = list(np.ndindex(shape))
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    steps = [axis.steps() for axis in axes]
    found = {}
    with displaced(weights, directions) as move:
        for point in progress(points[rank::processes], label):

            def part(point: tuple[int, ...] = point) -> dict[str, np.ndarray]:
                move(*(float(values[i]) for values, i in zip(steps, point, strict=True)))
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
