"""A copy of a state on the CPU, which nothing changes while it is being written."""

import copy

import torch
from torch import Tensor


def snapshot(state: object) -> object:
    """``state`` with every tensor copied to the CPU, and every other value copied, too.

    Tensors of a GPU go to pinned memory without waiting for each other; the host waits once, at
    the end. Tensors that are the same memory (tied weights) stay one.
    """
    copies: dict[tuple, Tensor] = {}
    result = _copied(state, copies)
    if any(key[0].type == 'cuda' for key in copies):
        torch.cuda.synchronize()
    return result


def _copied(value: object, copies: dict[tuple, Tensor]) -> object:
    if isinstance(value, Tensor):
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if key not in copies:
            copies[key] = _on_cpu(value.detach())
        return copies[key]
    if isinstance(value, dict):
        entries = ((key, _copied(entry, copies)) for key, entry in value.items())
        fresh = type(value)(entries)
        # The state_dict of a module carries the versions of its layers as an attribute.
        if hasattr(value, '_metadata'):
            fresh._metadata = copy.deepcopy(value._metadata)
        return fresh
    if type(value) in (list, tuple):
        return type(value)(_copied(entry, copies) for entry in value)
    return copy.deepcopy(value)


def _on_cpu(tensor: Tensor) -> Tensor:
    if tensor.device.type == 'cpu':
        return tensor.clone()
    pinned = tensor.device.type == 'cuda'
    fresh = torch.empty_like(tensor, device='cpu', pin_memory=pinned)
    return fresh.copy_(tensor, non_blocking=pinned)


def num_bytes(state: object) -> int:
    """Bytes of the tensors in ``state``, the least that its file takes."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, dict):
        return sum(map(num_bytes, state.values()))
    return sum(map(num_bytes, state)) if type(state) in (list, tuple) else 0
