"""Losses and gradient norms reach the log without a host synchronisation per step.

mmengine 0.10 calls ``.item()`` on every logged loss and ``float()`` on the gradient norm in every
iteration, and each of them makes the host wait for the device. Here the values stay on the device
and are fetched together, in one copy, just before the log line that shows them; the line itself
is the same. This file can go once mmengine's own hook and wrapper stop reading values per step.
"""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from a2mim.registry import HOOKS, OPTIM_WRAPPERS


class DeferredGradNorm:
    """Mixin for optimiser wrappers: keep the gradient norm on the device until it is logged."""

    pending_grad_norm: Tensor | None = None

    def _clip_grad(self) -> None:
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        if norm is not None:  # clipping by value has no norm
            self.pending_grad_norm = norm.detach()


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(DeferredGradNorm, MMEngineOptimWrapper):
    """mmengine's ``OptimWrapper``, without a synchronisation for the gradient norm."""


@HOOKS.register_module()
class RuntimeInfoHook(MMEngineRuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, which fetches logged values once per log line."""

    def before_train(self, runner: Runner) -> None:
        """Learn from the logger how often values are looked at."""
        super().before_train(runner)
        self._interval = min(
            (hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), default=1
        )
        self._pending: list[tuple[str, Tensor]] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Queue what the step returned; fetch the queue when a log line is due."""
        for name, value in (outputs or {}).items():
            self._pending.append((name, value.detach()))
        wrapper = runner.optim_wrapper
        if getattr(wrapper, 'pending_grad_norm', None) is not None:
            self._pending.append(('grad_norm', wrapper.pending_grad_norm))
            wrapper.pending_grad_norm = None
        due = self.every_n_inner_iters(batch_idx, self._interval)
        if due or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.flush(runner)

    def after_train(self, runner: Runner) -> None:
        """Leave nothing behind: hooks that draw curves read the history."""
        self.flush(runner)

    def flush(self, runner: Runner) -> None:
        """Bring what is queued to the log; all processes together, also before a checkpoint."""
        if not self._pending:
            return
        values = torch.stack([value.float() for _, value in self._pending])
        # The mean over all processes is the value of the global batch, whatever their number.
        all_reduce(values, 'mean')
        for (name, _), value in zip(self._pending, values.tolist(), strict=True):
            runner.message_hub.update_scalar(f'train/{name}', value)
        self._pending.clear()
