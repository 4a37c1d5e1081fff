"""Skip an update that is not finite, count it, keep what reproduces it, and stop if it goes on."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from a2mim.errors import NotFiniteError
from a2mim.registry import HOOKS
from a2mim.weights.safe_load import load_file

# [buffers]
# What a forward pass changes beside gradients: running statistics, kept until the update counts.
#
# A batch that makes the loss non-finite has already passed the normalisation layers, and a running
# mean that took it in once is non-finite for good.


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


# [host_copy]
# A few numbers on their way from the device to the processor.


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


# [device_skip]
# Optimisers that skip an update on the device, without the processor knowing.
#
# torch's fused optimisers read the tensor ``optimizer.found_inf`` in their kernel, as
# ``torch.amp.GradScaler`` uses it: 1 leaves parameters, moments and step counts as they are.


FUSED = (Adam, AdamW, SGD)
WORTH_IT = ('cuda',)  # devices for which the host should not wait


def prefer_fused(optimizer: Optimizer) -> None:
    """Take the fused form on a GPU, where the config says neither it nor ``foreach=True``.

    Only there: the order of its operations changes the last bits of a step, and the processor
    waits for nothing on a CPU. A state that was loaded from another form is moved along.
    """
    if type(optimizer) not in FUSED:
        return
    groups = optimizer.param_groups
    settled = any(g['fused'] is not None or g['foreach'] or g['differentiable'] for g in groups)
    parameters = [parameter for group in groups for parameter in group['params']]
    if settled or not all(p.device.type in WORTH_IT and p.is_floating_point() for p in parameters):
        return
    for group in groups:
        group['fused'] = True
    # As the constructor would: GradScaler then leaves the decision to the kernel too.
    optimizer._step_supports_amp_scaling = True
    for parameter, state in optimizer.state.items():
        if 'step' in state:
            state['step'] = torch.as_tensor(state['step']).to(parameter.device, torch.float32)


def skips_on_device(optimizer: Optimizer) -> bool:
    """Whether ``found_inf`` makes ``optimizer`` skip; SGD is prepared for a skipped first step.

    With dampening SGD's first momentum is no sum of its own, and such a run is told to the
    processor instead; so is one with sharded parameters, whose kernels take no plain tensor beside.
    """
    groups = optimizer.param_groups
    if type(optimizer) not in FUSED or not all(group['fused'] for group in groups):
        return False
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group['params']):
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


# [update_guard]
# Whether an update may happen: judged on the device, agreed on by all processes, told to the host.
#
# One vector of a few numbers is reduced per update, and it carries the request to stop, too, so
# that all processes stop after the same update.


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


# [optim_step]
# The step of an optimiser wrapper under the guard.


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


MAX_FILES = 3  # failed steps that a process keeps per run; each is as large as the weights


@HOOKS.register_module()
class FiniteGuardHook(Hook):
    """Guard every update, on all processes; the tools register this hook for every run.

    A bad update moves no parameter, no state of the optimiser, no running statistic and no average
    of the weights. Schedules and the iteration counter go on, so that a skip shifts nothing. The
    progress line shows the number of ``skipped`` updates once there is one.

    Args:
        stop_after: Bad updates in a row that end the run.

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
        self.guard: UpdateGuard | None = None
        self._written = 0

    def before_train(self, runner: Runner) -> None:
        """Give the optimiser's wrapper a guard.

        Raises:
            TypeError: If the wrapper cannot take one.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, GuardedStep):
            raise TypeError(
                f'optim_wrapper.type={type(wrapper).__name__} has no finite guard; take '
                'OptimWrapper or AmpOptimWrapper, or derive yours from one of them'
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        prefer_fused(wrapper.optimizer)
        self.guard = UpdateGuard(
            model, wrapper.optimizer, lambda verdict: self._judged(runner, verdict)
        )
        wrapper.guard = self.guard
        runner.message_hub.update_info('skipped_updates', self.skipped)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Show the guard what the step starts from."""
        self.guard.begin(runner.iter, data_batch)

    def after_train(self, runner: Runner) -> None:
        """Hear about the last update."""
        self.guard.settle()
        runner.optim_wrapper.guard = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the counts, with the update that the host has not heard of yet."""
        verdict = None if self.guard is None else self.guard.expected()
        bad = verdict is not None and verdict.bad
        streak = self.streak if verdict is None else (self.streak + 1) * bad
        checkpoint['finite_guard'] = dict(skipped=self.skipped + bad, streak=streak)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on counting in a resumed run."""
        if runner._resume and 'finite_guard' in checkpoint:
            counts = checkpoint['finite_guard']
            self.skipped, self.streak = counts['skipped'], counts['streak']

    def _judged(self, runner: Runner, verdict: Verdict) -> None:
        if not verdict.bad:
            if self.streak:
                runner.logger.info(f'finite again, after {self.streak} skipped update(s)')
            self.streak = 0
            return
        self.streak += 1
        self.skipped += 1
        runner.message_hub.update_info('skipped_updates', self.skipped)
        if self.streak == 1:
            what = 'loss' if verdict.bad_loss else 'gradient'
            runner.logger.warning(
                f'iteration {verdict.steps[-1].iteration + 1}: the {what} is not finite; the '
                f'update is skipped, and after {self.stop_after} in a row the run stops'
            )
        # Among several processes a loss names the culprit; gradients are shared, so that all
        # batches are kept.
        if verdict.own_bad_loss or not verdict.bad_loss:
            self._keep(runner, verdict)
        if self.streak >= self.stop_after:
            raise NotFiniteError(self._last_words(runner, verdict))

    def _keep(self, runner: Runner, verdict: Verdict) -> None:
        # A shard is not the weights, and the others would have to take part.
        sharded = any(isinstance(p, DTensor) for p in runner.model.parameters())
        if sharded or self._written == MAX_FILES:
            return
        self._written += 1
        try:
            content = describe_failed_step(runner, self.guard, verdict)
            path = write_failed_step(content, runner.work_dir)
        except OSError as error:
            runner.logger.warning(f'the failed step could not be written: {error}')
            return
        runner.logger.warning(f'to see what failed: python tools/replay_step.py {path}')

    def _last_words(self, runner: Runner, verdict: Verdict) -> str:
        iteration = verdict.steps[-1].iteration + 1
        return (
            f'{self.streak} updates in a row up to iteration {iteration} had a loss or gradient '
            f'that is not finite ({self.skipped} of the run); the weights are those before them, '
            f'and the last checkpoint in {runner.work_dir} is intact. '
            f'python tools/replay_step.py {runner.work_dir}/{FAILED_STEPS}/FILE says where '
            'it begins; a lower learning rate, clip_grad or bfloat16 in place of float16 help most '
            'often. --resume auto goes on from the checkpoint'
        )


# [failed_step]
# A step that failed, as a file: everything that computes its loss and gradients again.
#
# The weights decide both, so that the state of the optimiser, which is larger, is left out. The
# file has the size of the model's weights and of the batch, and holds plain data only.


FAILED_STEPS = 'failed_steps'
KIND = 'a2mim failed step'


def describe_failed_step(runner: Runner, guard: UpdateGuard, verdict: Verdict) -> dict:
    """The content of the file, for a verdict whose update has moved nothing."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    # Running statistics as they were before the batch; the model's own may have seen it.
    state, saved = model.state_dict(), guard.buffers.saved()
    state |= {name: value for name, value in saved.items() if name in state}
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return dict(
        kind=KIND,
        iteration=verdict.steps[-1].iteration,
        rank=get_rank(),
        world_size=get_world_size(),
        seed=runner.seed,
        loss_scale=scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0,
        steps=[
            dict(iteration=s.iteration, batch=on_cpu(s.batch), loss=float(s.loss.sum()))
            for s in verdict.steps
        ],
        grad_norm=verdict.grad_norm,
        state_dict=on_cpu(state),
        config=runner.cfg.pretty_text,
    )


def write_failed_step(content: dict, work_dir: str) -> Path:
    """Write ``failed_steps/iter_N_rank_R.pth``, complete or not at all, and return its path.

    N counts from 1, as the log does; iterations in the content are those done before, as seeds are.
    """
    name = f'iter_{content["iteration"] + 1}_rank_{content["rank"]}.pth'
    path = Path(work_dir) / FAILED_STEPS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    try:
        with partial.open('wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_failed_step(path: str | Path) -> dict:
    """The content of a file, by the strict loader.

    Raises:
        ValueError: If the file is something else.
    """
    content = load_file(path)
    if content.get('kind') != KIND:
        raise ValueError(f'{path} is no failed step; a run writes them to WORK_DIR/{FAILED_STEPS}')
    return content


def on_cpu(value: object) -> object:
    """``value`` with every tensor in it copied to the CPU; it is used and changed further on."""
    if isinstance(value, Tensor):
        return value.detach().to('cpu', copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [on_cpu(entry) for entry in value]
    return value
