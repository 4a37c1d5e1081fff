"""Detect operators that make the CPU wait for the accelerator (``a2mim.engine.host_waits``).

with no_host_sync():
    model(image=image, mask=mask, mode='loss')['loss_spatial'].backward()
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from a2mim.engine.host_waits import waits


class HostSyncError(AssertionError):
    """An operator inside :func:`no_host_sync` makes the processor wait."""


class _ForbidHostSync(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if waits(func, args):
            raise HostSyncError(f'{func} would make the processor wait for the accelerator')
        return func(*args, **(kwargs or {}))


@contextmanager
def no_host_sync() -> Iterator[None]:
    """Raise at the line that synchronises, in the forward pass and in the backward pass.

    Raises:
        HostSyncError: From the first such operator, which it names.
    """
    with _ForbidHostSync():
        yield
