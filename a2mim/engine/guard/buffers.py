"""What a forward pass changes beside gradients: running statistics, kept until the update counts.

A batch that makes the loss non-finite has already passed the normalisation layers, and a running
mean that took it in once is non-finite for good.
"""

import torch
from torch import Tensor, nn


class BufferSnapshot:
    """The floating buffers of ``model`` in one tensor: taken, and put back by three operators.

    Args:
        model: The model, outside of any wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        named = {n: b for n, b in model.named_buffers() if b.is_floating_point() and b.numel()}
        self.names, self.buffers = [*named], [*named.values()]
        self._saved: Tensor | None = None

    def take(self) -> None:
        """Remember the values of now."""
        if self.buffers:
            self._saved = self._flat()

    def restore_where(self, bad: Tensor) -> None:
        """Put the remembered values back if ``bad`` (a scalar on the device) is not 0."""
        if self._saved is not None:
            self._copy(torch.where(bad > 0, self._saved, self._flat()))

    def saved(self) -> dict[str, Tensor]:
        """The remembered values by name, shaped as the buffers."""
        return dict(zip(self.names, self._parts(self._saved), strict=True)) if self.names else {}

    def _flat(self) -> Tensor:
        # Several dtypes are promoted to the widest, which holds the others exactly.
        return torch.cat([buffer.detach().flatten() for buffer in self.buffers])

    def _parts(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split([buffer.numel() for buffer in self.buffers])
        return [part.view_as(b) for part, b in zip(parts, self.buffers, strict=True)]

    def _copy(self, flat: Tensor) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.buffers, self._parts(flat))
