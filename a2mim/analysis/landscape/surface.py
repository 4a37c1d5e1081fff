"""Loss on a grid of steps along one direction or two, point by point, so that it can go on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch import distributed as dist

from a2mim.analysis.landscape.directions import displaced
from a2mim.analysis.parts import PartStore
from a2mim.analysis.progress import progress


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
