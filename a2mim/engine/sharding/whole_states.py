"""Checkpoints of a sharded model are those of an unsharded one: one file, whole tensors.

torch.distributed.checkpoint.state_dict gathers too, but names the optimiser's state by parameter,
where the files of every other run number it. Here only tensors are exchanged: whatever reads or
writes a ``state_dict`` finds the same entries in the same order with either wrapper.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mmengine.dist import is_main_process
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


class WholeStates:
    """Whole tensors out of, and into, the ``state_dict`` of a sharded model and its optimiser.

    Args:
        model: The model, sharded already.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimizer: Optimizer | None = None
        self._weights: dict[str, Tensor] = {}
        self._moments: dict[int, dict] = {}
        model.register_load_state_dict_pre_hook(self._share_weights)
        # torch marks the hook, which a bound method does not allow.
        model.register_state_dict_post_hook(partial(self._put_weights))

    def follow(self, optimizer: Optimizer) -> None:
        """Do the same for ``optimizer``, from now on."""
        if optimizer is not self.optimizer:
            self.optimizer = optimizer
            optimizer.register_load_state_dict_pre_hook(self._share_moments)
            optimizer.register_state_dict_post_hook(self._put_moments)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Collect all tensors on the CPU of the first process; every process has to call it.

        Within the block that process may ask for states as often as it likes, alone.
        """
        weights = {name: whole(value) for name, value in self.model.state_dict().items()}
        moments = {
            index: {name: whole(value) for name, value in values.items()}
            for index, values in self.optimizer.state_dict()['state'].items()
        }
        if is_main_process():
            self._weights, self._moments = weights, moments
        try:
            yield
        finally:
            self._weights, self._moments = {}, {}

    def _put_weights(self, model: nn.Module, state: dict, prefix: str, *_: object) -> None:
        state.update({prefix + name: tensor for name, tensor in self._weights.items()})

    def _put_moments(self, optimizer: Optimizer, state: dict) -> dict:
        return {**state, 'state': self._moments or state['state']}

    def _share_weights(self, model: nn.Module, state: dict, prefix: str, *_: object) -> None:
        for name, parameter in model.named_parameters():
            if prefix + name in state:
                state[prefix + name] = share(state[prefix + name], parameter)

    def _share_moments(self, optimizer: Optimizer, state: dict) -> dict:
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        moments = {
            index: {name: share(value, parameters[index]) for name, value in values.items()}
            for index, values in state['state'].items()
        }
        return {**state, 'state': moments}


def whole(value: object) -> object:
    """A sharded tensor as a whole one, kept on the CPU of the first process and nowhere else."""
    if not isinstance(value, DTensor):
        return value
    tensor = value.full_tensor()
    return tensor.cpu() if is_main_process() else None


def share(value: object, parameter: Tensor) -> object:
    """``value`` split as ``parameter`` is, if it is a tensor of its shape.

    Every process ends with its share of what the first one has.
    """
    if (
        not isinstance(value, Tensor)
        or isinstance(value, DTensor)
        or not isinstance(parameter, DTensor)
        or value.shape != parameter.shape
    ):
        return value
    value = value.detach().to(parameter.device, parameter.dtype)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)
