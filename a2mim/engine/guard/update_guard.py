"""Whether an update may happen: judged on the device, agreed on by all processes, told to the host.

One vector of a few numbers is reduced per update, and it carries the request to stop, too, so that
all processes stop after the same update.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from a2mim.engine.guard.buffers import BufferSnapshot
from a2mim.engine.guard.device_skip import skips_on_device
from a2mim.engine.guard.host_copy import HostCopy


@dataclass
class Step:
    """A forward and backward pass of an update: its iteration, batch, and loss on the device."""

    iteration: int
    batch: object
    loss: Tensor | None = None


@dataclass
class Verdict:
    """What the processes found about an update.

    Attributes:
        bad: Whether a loss or the gradient norm of any process was not finite.
        bad_loss: Whether a loss of any process was not finite.
        stop: Whether any process was asked to stop.
        own_bad_loss: Whether a loss of this process was not finite.
        grad_norm: The norm of the gradients, as this process has it.
        steps: The passes of the update, one unless gradients are accumulated.
    """

    bad: bool
    bad_loss: bool
    stop: bool
    own_bad_loss: bool
    grad_norm: float
    steps: list[Step] = field(default_factory=list)


class UpdateGuard:
    """The judge of every update of one training.

    An optimiser that skips on the device is told by a tensor there, and the host learns of update
    t just before it queues the optimiser of update t + 1: the forward and backward pass of t + 1
    are queued by then, so that the device never runs dry, and since a skipped update moves
    nothing, the state in which it failed is still there. With any other optimiser the host waits
    for the verdict before each update; on the CPU that costs nothing.

    Args:
        model: The model, outside of any wrapper.
        optimizer: What moves it.
        report: Called with each verdict, on all processes at the same point of the training.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, report: Callable[[Verdict], None]
    ) -> None:
        self.deferred = skips_on_device(optimizer)
        self.buffers = BufferSnapshot(model)
        self.stop_requested = False  # of this process
        self.stop_agreed = False  # of all
        self.bad: Tensor | None = None  # of the last update: 1 or 0, on the device
        self._report = report
        self._steps: list[Step] = []
        self._waiting: tuple[HostCopy, list[Step]] | None = None

    def begin(self, iteration: int, batch: object) -> None:
        """Note the next pass, and before the first one of an update what it may change."""
        if not self._steps:
            self.buffers.take()
        self._steps.append(Step(iteration, batch))

    def watch(self, loss: Tensor) -> None:
        """Note the loss of the pass that has begun."""
        self._steps[-1].loss = loss.detach()

    def judge(self, grad_norm: Tensor, scale: Tensor | None = None) -> bool:
        """Judge the update that is due, and put running statistics back if it is bad.

        Args:
            grad_norm: Norm of the gradients of this process, before clipping.
            scale: Scale of the losses in float16. Above 1 it may be what is wrong with the
                gradients, which the scaler then sees and mends by itself.

        Returns:
            Whether the host knows that the update is bad. ``bad`` tells it on the device.
        """
        flags, own = self._flags(grad_norm, scale)
        all_reduce(flags, 'max')
        self.bad = flags[0]
        self.buffers.restore_where(self.bad)
        self.settle()
        self._waiting = HostCopy(torch.cat([flags, own])), self._steps
        self._steps = []
        return not self.deferred and self.settle()

    def settle(self) -> bool:
        """Report the verdict that is still on its way, if one is; whether it says bad."""
        if self._waiting is None:
            return False
        verdict, self._waiting = self._read(), None
        self.stop_agreed |= verdict.stop
        self._report(verdict)
        return verdict.bad

    def expected(self) -> Verdict | None:
        """The verdict that is still on its way, if one is; nothing is reported."""
        return None if self._waiting is None else self._read()

    def _flags(self, grad_norm: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is compared among processes (bad, bad loss, stop), and what is not."""
        norm = grad_norm.detach()
        norm = (norm.full_tensor() if isinstance(norm, DTensor) else norm).float()
        losses = torch.stack([step.loss.float().sum() for step in self._steps])
        bad_loss = ~losses.isfinite().all()
        bad_norm = ~norm.isfinite()
        if scale is not None:
            bad_norm &= scale.squeeze() < 1
        stop = torch.full_like(norm, float(self.stop_requested))
        flags = torch.stack([(bad_loss | bad_norm).float(), bad_loss.float(), stop])
        return flags, torch.stack([bad_loss.float(), norm])

    def _read(self) -> Verdict:
        copy, steps = self._waiting
        bad, bad_loss, stop, own_bad_loss, norm = copy.read()
        return Verdict(bool(bad), bool(bad_loss), bool(stop), bool(own_bad_loss), norm, steps)
