"""Detect operators that make the CPU wait for the accelerator.

Such an operator needs a value, or a size that depends on values, on the processor: ``.item()``,
``if tensor:``, ``nonzero``, indexing with a boolean mask. On a GPU each costs a round trip per
step; on the CPU nothing shows, except the operator itself, and that is what is caught here.

    with no_host_sync():
        model(image=image, mask=mask, mode='loss')['loss_spatial'].backward()

Copies to the processor (``.cpu()``, ``.tolist()``, ``.numpy()``) are no operators on a CPU tensor:
they go unseen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Results or sizes that the processor reads. repeat_interleave syncs where the repeats are a tensor.
READS = {
    '_local_scalar_dense',
    '_unique2',
    'bincount',
    'equal',
    'masked_scatter',
    'masked_scatter_',
    'masked_select',
    'nonzero',
    'repeat_interleave',
    'unique_consecutive',
    'unique_dim',
}
# Harmless with integer positions; with a boolean mask they run nonzero inside.
INDEXING = {'_index_put_impl_', 'index', 'index_put', 'index_put_'}


class HostSyncError(AssertionError):
    """An operator inside :func:`no_host_sync` makes the processor wait."""


class _ForbidHostSync(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in READS or (name in INDEXING and _has_boolean_index(args[1])):
            raise HostSyncError(f'{func} would make the processor wait for the accelerator')
        return func(*args, **(kwargs or {}))


def _has_boolean_index(indices: list[torch.Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextmanager
def no_host_sync() -> Iterator[None]:
    """Raise at the line that synchronises, in the forward pass and in the backward pass.

    Raises:
        HostSyncError: From the first such operator, which it names.
    """
    with _ForbidHostSync():
        yield
