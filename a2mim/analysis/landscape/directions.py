"""Directions in the space of weights, and a network moved along them.

Reference:
    Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018
    (https://arxiv.org/abs/1712.09913).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
