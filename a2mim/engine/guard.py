"""The finite guard: skip updates with NaN or Inf, count and record them, stop after a streak.

The check runs on the device, is all-reduced over the processes, and reaches the host
asynchronously: one vector of a few numbers per update, which also carries a request to stop, so
that all processes stop after the same update.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from a2mim.engine.processes import bare_model
from a2mim.engine.replay import FAILED_STEPS, write_failed_step
from a2mim.engine.sharding import full_tensor, is_sharded
from a2mim.errors import NotFiniteError
from a2mim.registry import HOOKS

FUSED = (Adam, AdamW, SGD)  # have a form whose kernel reads ``found_inf``
WORTH_IT = ('cuda',)  # devices for which the host should not wait
MAX_FILES = 3  # failed steps that a process keeps per run; each is as large as the weights


def prefer_fused(optimizer: Optimizer) -> None:
    """Switch to the fused form on a GPU, unless the config sets ``fused`` or ``foreach=True``.

    Only there: the order of its operations changes the last bits of a step, and on a CPU the host
    waits for nothing. A state that was loaded from another form is converted.
    """
    if type(optimizer) not in FUSED:
        return
    groups = optimizer.param_groups
    chosen = any(g['fused'] is not None or g['foreach'] or g['differentiable'] for g in groups)
    parameters = [parameter for group in groups for parameter in group['params']]
    if chosen or not all(p.device.type in WORTH_IT and p.is_floating_point() for p in parameters):
        return
    for group in groups:
        group['fused'] = True
    # As the constructor would: GradScaler then leaves the decision to the kernel too.
    vars(optimizer)['_step_supports_amp_scaling'] = True
    for parameter, state in optimizer.state.items():
        if 'step' in state:
            state['step'] = torch.as_tensor(state['step']).to(parameter.device, torch.float32)


def check_clipping(options: Mapping[str, Any] | None) -> None:
    """Refuse bounds of ``clip_grad`` that would spoil gradients, or clip none.

    Args:
        options: The arguments of torch's clipping functions, without ``type``.

    Raises:
        ValueError: If a bound is NaN, infinite or negative, or ``norm_type`` is not above 0.
    """
    for name in ('max_norm', 'clip_value'):
        bound = (options or {}).get(name, 0)
        if not 0 <= bound < math.inf:
            raise ValueError(
                f'optim_wrapper.clip_grad.{name}={bound} must be a finite number of at least 0, '
                'such as 1.0; without clipping leave clip_grad out'
            )
    order = (options or {}).get('norm_type', 2)
    if not order > 0:
        raise ValueError(
            f'optim_wrapper.clip_grad.norm_type={order} must be above 0; 2 is the usual norm'
        )


def skips_on_device(optimizer: Optimizer) -> bool:
    """Whether the optimiser skips a step by itself where its tensor ``found_inf`` is 1.

    torch's fused optimisers read it in their kernel, as ``torch.amp.GradScaler`` uses it, and then
    leave parameters, moments and step counts unchanged. SGD is prepared for a skipped first step;
    with dampening its first momentum is a special case, and the host decides instead. So it does
    for sharded parameters, whose kernels accept no plain tensor with them.
    """
    groups = optimizer.param_groups
    if type(optimizer) not in FUSED or not all(group['fused'] for group in groups):
        return False
    if is_sharded(parameter for group in groups for parameter in group['params']):
        return False
    if isinstance(optimizer, SGD):
        if any(group['dampening'] for group in groups):
            return False
        _start_momentum(optimizer)
    return True


def _start_momentum(optimizer: SGD) -> None:
    """Zeros where torch would allocate and fill in the first step: skipped, they stay unfilled."""
    for group in optimizer.param_groups:
        for parameter in group['params'] if group['momentum'] else ():
            state = optimizer.state[parameter]
            if state.get('momentum_buffer') is None and parameter.requires_grad:
                state['momentum_buffer'] = torch.zeros_like(parameter)


class BufferSnapshot:
    """The floating-point buffers of ``model`` (running statistics) in one tensor.

    A batch that makes the loss non-finite has already passed the normalisation layers, and a
    running mean that has averaged it in stays non-finite. Saving and restoring take three kernels.

    Args:
        model: The model, outside of any wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        named = {n: b for n, b in model.named_buffers() if b.is_floating_point() and b.numel()}
        self.names, self.buffers = [*named], [*named.values()]
        self._saved: Tensor | None = None

    def take(self) -> None:
        """Save the current values."""
        if self.buffers:
            self._saved = self._flat()

    def restore_where(self, bad: Tensor) -> None:
        """Restore the saved values if ``bad`` (a scalar on the device) is not 0."""
        if self._saved is not None:
            self._copy(torch.where(bad > 0, self._saved, self._flat()))

    def saved(self) -> dict[str, Tensor]:
        """The saved values by name, shaped as the buffers."""
        parts = [] if self._saved is None else self._parts(self._saved)
        return dict(zip(self.names, parts, strict=True))

    def _flat(self) -> Tensor:
        # Several dtypes are promoted to the widest, which holds the others exactly.
        return torch.cat([buffer.detach().flatten() for buffer in self.buffers])

    def _parts(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split([buffer.numel() for buffer in self.buffers])
        return [part.view_as(b) for part, b in zip(parts, self.buffers, strict=True)]

    def _copy(self, flat: Tensor) -> None:
        with torch.no_grad():
            torch._foreach_copy_(  # pyright: ignore[reportPrivateImportUsage], not in stubs
                self.buffers, self._parts(flat)
            )


class HostCopy:
    """An asynchronous copy from the device to the host: only ``read`` waits, and only for it.

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


@dataclass
class Step:
    """A forward and backward pass of an update: its iteration, batch, and loss on the device."""

    iteration: int
    batch: object
    loss: Tensor | None = None


@dataclass
class UpdateResult:
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
    """Check every update of one training.

    An optimiser that skips on the device reads a tensor there, and the host gets the result of
    update t just before it queues the optimiser of update t + 1: the forward and backward pass of
    t + 1 are queued by then, so that the device never idles, and since a skipped update changes
    nothing, the state in which it failed is still there. With any other optimiser the host waits
    for the result before each update; on the CPU that costs nothing.

    Args:
        model: The model, outside of any wrapper.
        optimizer: Its optimiser.
        report: Called with each result, at the same point of the training on all processes.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, report: Callable[[UpdateResult], None]
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

    def check(self, grad_norm: Tensor, scale: Tensor | None = None) -> bool:
        """Check the update that is due, and restore running statistics if it is bad.

        Args:
            grad_norm: Norm of the gradients of this process, before clipping.
            scale: Loss scale of float16. Above 1 it may be the cause of infinite gradients, for
                which the scaler skips the step and shrinks its scale.

        Returns:
            Whether the host knows that the update is bad; ``self.bad`` says it on the device.
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
        """Report the pending result, if there is one; return whether the update was bad."""
        if self._waiting is None:
            return False
        result, self._waiting = self._read(*self._waiting), None
        self.stop_agreed |= result.stop
        self._report(result)
        return result.bad

    def abandon(self) -> bool:
        """Forget the passes of an update that cannot be completed, with their running statistics.

        Returns:
            Whether the state is that before the update: False once it was checked.
        """
        if not self._steps:
            return False
        self._steps = []
        self.buffers.restore_where(torch.ones(()))
        return True

    def pending(self) -> UpdateResult | None:
        """The pending result, if there is one, without reporting it."""
        return None if self._waiting is None else self._read(*self._waiting)

    def _flags(self, grad_norm: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is reduced over processes (bad, bad loss, stop), and what is not."""
        norm = full_tensor(grad_norm.detach()).float()
        losses = torch.stack([s.loss.float().sum() for s in self._steps if s.loss is not None])
        bad_loss = ~losses.isfinite().all()
        bad_norm = ~norm.isfinite()
        if scale is not None:
            bad_norm &= scale.squeeze() < 1
        stop = torch.full_like(norm, float(self.stop_requested))
        flags = torch.stack([(bad_loss | bad_norm).float(), bad_loss.float(), stop])
        return flags, torch.stack([bad_loss.float(), norm])

    def _read(self, copy: HostCopy, steps: list[Step]) -> UpdateResult:
        bad, bad_loss, stop, own_bad_loss, norm = copy.read()
        return UpdateResult(bool(bad), bool(bad_loss), bool(stop), bool(own_bad_loss), norm, steps)


class GuardedStep(OptimWrapper):
    """Optimiser wrapper that asks the guard before it updates the parameters.

    It also keeps the norm of the gradients on the device until it is logged. Without a guard, which
    ``FiniteGuardHook`` sets, the step is mmengine's.
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

    def step(self, **kwargs: Any) -> None:
        """Clip, check, and update unless the check fails."""
        if self.guard is None:
            super().step(**kwargs)
            return
        if self.guard.check(self._clipped_norm()):
            return
        if not self.guard.deferred:
            self.optimizer.step(**kwargs)
            return
        found_inf = dict(found_inf=self.guard.bad)  # what the fused kernel reads
        vars(self.optimizer).update(found_inf)
        self.optimizer.step(**kwargs)
        del vars(self.optimizer)['found_inf']

    def _clipped_norm(self) -> Tensor:
        """Clip as configured, and return the norm of the gradients before it.

        It is not finite either if the gradients after it, which the optimiser gets, are not.
        """
        clip = self.clip_grad_kwargs or {}
        if clip and self.grad_name == 'grad_norm':
            self._clip_grad()
            norm = full_tensor(cast(Tensor, self.pending_grad_norm))
            # All gradients were multiplied by it, and it is NaN where the bound is.
            factor = (float(clip['max_norm']) / (norm + 1e-6)).clamp(max=1)
            return norm + 0 * factor
        # Clipping by value would make infinity finite: measure first.
        norm = torch.nn.utils.get_total_norm(
            [cast(Tensor, parameter.grad) for parameter in self._updated()]
        )
        if clip:
            self._clip_grad()
        return norm * math.nan if math.isnan(clip.get('clip_value', 0)) else norm

    def _clip_grad(self) -> None:
        clip = cast(Callable[..., Tensor | None], self.clip_func)
        norm = clip(self._updated(), **(self.clip_grad_kwargs or {}))
        if norm is not None:  # clipping by value has no norm
            self.pending_grad_norm = norm.detach()

    def _updated(self) -> list[Tensor]:
        groups = self.optimizer.param_groups
        return [p for group in groups for p in group['params'] if p.grad is not None]


@HOOKS.register_module()
class FiniteGuardHook(Hook):
    """Check every update on all processes; skip it if a loss or the gradient norm is not finite.

    A skipped update changes no parameter, optimiser state, running statistic or average of the
    weights. Schedules and the iteration counter proceed, so that a skip shifts nothing. The
    progress line shows the number of ``skipped`` updates once there is one.

    Args:
        stop_after: Skipped updates in a row that end the run.

    Raises:
        ValueError: If ``stop_after`` is less than 1.
    """

    # Before hooks that look at the batch or the step; the others come after it.
    priority = 'VERY_HIGH'

    def __init__(self, stop_after: int = 10) -> None:
        if stop_after < 1:
            raise ValueError(f'stop_after={stop_after} must be at least 1 update')
        self.stop_after = stop_after
        self.skipped, self.streak = 0, 0
        self.guard: UpdateGuard | None = None  # while training
        self._written = 0

    def before_train(self, runner: Runner) -> None:
        """Set the guard of the optimiser wrapper.

        Raises:
            TypeError: If the wrapper has none.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, GuardedStep):
            raise TypeError(
                f'optim_wrapper.type={type(wrapper).__name__} has no finite guard; take '
                'OptimWrapper or AmpOptimWrapper, or derive yours from one of them'
            )
        prefer_fused(wrapper.optimizer)
        self.guard = wrapper.guard = UpdateGuard(
            bare_model(runner.model), wrapper.optimizer, partial(self._handle, runner)
        )
        runner.message_hub.update_info('skipped_updates', self.skipped)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Tell the guard the iteration and its batch."""
        cast(UpdateGuard, self.guard).begin(runner.iter, data_batch)

    def after_train(self, runner: Runner) -> None:
        """Handle the result of the last update."""
        cast(UpdateGuard, self.guard).settle()
        cast(GuardedStep, runner.optim_wrapper).guard = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the counts, with the update whose result the host does not have yet."""
        result = None if self.guard is None else self.guard.pending()
        bad = result is not None and result.bad
        streak = self.streak if result is None else (self.streak + 1) * bad
        checkpoint['finite_guard'] = dict(skipped=self.skipped + bad, streak=streak)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Continue the counts in a resumed run."""
        if runner._resume and 'finite_guard' in checkpoint:
            counts = checkpoint['finite_guard']
            self.skipped, self.streak = counts['skipped'], counts['streak']

    def _handle(self, runner: Runner, result: UpdateResult) -> None:
        if not result.bad:
            if self.streak:
                runner.logger.info(f'finite again, after {self.streak} skipped update(s)')
            self.streak = 0
            return
        self.streak += 1
        self.skipped += 1
        runner.message_hub.update_info('skipped_updates', self.skipped)
        if self.streak == 1:
            what = 'loss' if result.bad_loss else 'gradient'
            runner.logger.warning(
                f'iteration {result.steps[-1].iteration + 1}: the {what} is not finite; the '
                f'update is skipped, and after {self.stop_after} in a row the run stops'
            )
        # Among several processes a loss tells which batch is at fault; gradients are shared, so
        # that all batches are kept.
        if result.own_bad_loss or not result.bad_loss:
            self._dump_failed_step(runner, result)
        if self.streak >= self.stop_after:
            raise NotFiniteError(self._abort_message(runner, result))

    def _dump_failed_step(self, runner: Runner, result: UpdateResult) -> None:
        # A shard is not the weights, and the other processes would have to take part.
        if is_sharded(runner.model.parameters()) or self._written == MAX_FILES:
            return
        self._written += 1
        try:
            steps = [
                dict(iteration=s.iteration, batch=s.batch, loss=float(cast(Tensor, s.loss).sum()))
                for s in result.steps
            ]
            buffers = cast(UpdateGuard, self.guard).buffers.saved()
            path = write_failed_step(runner, steps, result.grad_norm, buffers)
        except (OSError, MemoryError) as error:
            runner.logger.warning(f'the failed step is not kept: {error or "no memory"}')
            return
        runner.logger.warning(f'to see what failed: python tools/replay_step.py {path}')

    def _abort_message(self, runner: Runner, result: UpdateResult) -> str:
        iteration = result.steps[-1].iteration + 1
        return (
            f'{self.streak} updates in a row up to iteration {iteration} had a loss or gradient '
            f'that is not finite ({self.skipped} of the run); the weights are those before them, '
            f'and the last checkpoint in {runner.work_dir} is intact. '
            f'python tools/replay_step.py {runner.work_dir}/{FAILED_STEPS}/FILE names the first '
            'module with NaN or Inf; a lower learning rate, clip_grad or bfloat16 in place of '
            'float16 help most often. --resume auto resumes from the checkpoint'
        )
