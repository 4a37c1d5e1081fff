"""The step of an optimiser wrapper under the guard."""

import torch
from torch import Tensor

from a2mim.engine.guard.update_guard import UpdateGuard


class GuardedStep:
    """Mixin for optimiser wrappers: ask the guard before the optimiser moves anything.

    It also keeps the norm of the gradients on the device until it is logged. Without a guard, which
    ``FiniteGuardHook`` brings, the step is mmengine's.
    """

    guard: UpdateGuard | None = None
    pending_grad_norm: Tensor | None = None

    def update_params(
        self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None
    ) -> None:
        """Backward pass, and update if one is due, as in mmengine's wrapper."""
        if self.guard is not None:
            self.guard.watch(loss)
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs: object) -> None:
        """Clip, ask, and move."""
        if self.guard is None:
            super().step(**kwargs)
            return
        if self.guard.judge(self._clipped_norm()):
            return
        if not self.guard.deferred:
            self.optimizer.step(**kwargs)
            return
        self.optimizer.found_inf = self.guard.bad
        self.optimizer.step(**kwargs)
        del self.optimizer.found_inf

    def _clipped_norm(self) -> Tensor:
        """Clip as configured, and return the norm of the gradients before it."""
        by_norm = self.clip_grad_kwargs and self.grad_name == 'grad_norm'
        # Clipping by value would make infinity finite: measure first.
        norm = None if by_norm else torch.nn.utils.get_total_norm([p.grad for p in self._moved()])
        if self.clip_grad_kwargs:
            self._clip_grad()
        return self.pending_grad_norm if by_norm else norm

    def _clip_grad(self) -> None:
        norm = self.clip_func(self._moved(), **self.clip_grad_kwargs)
        if norm is not None:  # clipping by value has no norm
            self.pending_grad_norm = norm.detach()

    def _moved(self) -> list[Tensor]:
        groups = self.optimizer.param_groups
        return [p for group in groups for p in group['params'] if p.grad is not None]
