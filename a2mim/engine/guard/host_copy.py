"""A few numbers on their way from the device to the processor."""

import torch
from torch import Tensor


class HostCopy:
    """A copy that is started now and read later: only the reader waits, and only for this copy.

    Args:
        values: A vector, on any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if not values.is_cuda:
            self._values = values.detach().clone()
            return
        self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._values.copy_(values.detach(), non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def read(self) -> list[float]:
        """The numbers, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.tolist()
