"""What mmengine 0.10 does otherwise, corrected from outside; nothing of it is patched.

Each part says what mmengine does, and can go once mmengine no longer does it.
"""

import logging
import os
import warnings
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dist import all_reduce
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from a2mim.engine.guard import GuardedStep
from a2mim.engine.history import bound_histories, keep_curves, log_window, record_loss
from a2mim.engine.processes import bare_model
from a2mim.registry import HOOKS, OPTIM_WRAPPERS
from a2mim.weights.safe_load import load_file, weights_only_switch


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(GuardedStep, MMEngineOptimWrapper):
    """mmengine's ``OptimWrapper``, guarded, and without a synchronisation for the gradient norm."""


@HOOKS.register_module()
class RuntimeInfoHook(MMEngineRuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, which fetches logged values once per log line.

    mmengine calls ``.item()`` on every logged loss and ``float()`` on the gradient norm in every
    iteration, and each of them makes the host wait for the device. Here the values stay on the
    device and are fetched in one copy just before the log line that shows them. Histories are cut
    to what log lines look back; losses stay as curves (``a2mim.engine.history``).
    """

    def before_train(self, runner: Runner) -> None:
        """Learn from the logger how often values are looked at, and how many of them."""
        super().before_train(runner)
        self._window = log_window(runner)
        keep_curves(runner.message_hub)
        bound_histories(runner.message_hub, *self._window)
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
        wrapper = cast(GuardedStep, runner.optim_wrapper)
        grad_norm = getattr(wrapper, 'pending_grad_norm', None)
        if grad_norm is not None:
            self._pending.append(('grad_norm', grad_norm))
            wrapper.pending_grad_norm = None
        due = self.every_n_inner_iters(batch_idx, self._interval)
        if due or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.flush(runner)
            bound_histories(runner.message_hub, *self._window)

    def after_train(self, runner: Runner) -> None:
        """Leave nothing behind: hooks that draw curves read the history."""
        self.flush(runner)

    def flush(self, runner: Runner, *, alone: bool = False) -> None:
        """Bring what is queued to the log; all processes together, also before a checkpoint.

        Args:
            runner: The run.
            alone: Log the values of this process, since others are missing.
        """
        if not self._pending:
            return
        values = torch.stack([value.float() for _, value in self._pending])
        # The mean over all processes is the value of the global batch, whatever their number.
        if not alone:
            all_reduce(values, 'mean')
        for (name, _), value in zip(self._pending, values.tolist(), strict=True):
            runner.message_hub.update_scalar(f'train/{name}', value)
            if 'loss' in name:
                record_loss(runner.message_hub, name, value)
        self._pending.clear()


# Warnings and messages that mean nothing for a run, each with the reason.
HARMLESS_WARNINGS = (
    # torch 2.14 renamed this option of DDP; mmengine 0.10 passes the old name.
    ('`broadcast_buffers` is deprecated', FutureWarning),
    # Schedules count iterations; with accumulation the first update comes some iterations later,
    # and the finite guard may skip it.
    (r'Detected call of `scheduler\.step\(\)` before `optimizer\.step\(\)`', UserWarning),
    # A config is written for GPUs and runs on the CPU too.
    ("'pin_memory' argument is set as true but no accelerator is found", UserWarning),
)
# mmengine's CheckpointHook says these about mmengine.
HARMLESS_MESSAGES = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
# Pages of environment, config and hook order, and what a person knows: in the file only.
LONG_MESSAGES = (
    '\n' + 60 * '-' + '\nSystem environment',
    'Config:\n',
    'Hooks will be executed',
    'Distributed training is not used',
    'Exp name:',
    # mmengine has printed the same path a line before.
    'Load checkpoint from',
)


def filter_log(logger: MMLogger) -> None:
    """Drop ``HARMLESS_MESSAGES`` everywhere, and ``LONG_MESSAGES`` on the console."""
    for handler in logger.handlers:
        # A FileHandler is a StreamHandler too.
        to_console = not isinstance(handler, logging.FileHandler)
        dropped = HARMLESS_MESSAGES + LONG_MESSAGES * to_console
        handler.addFilter(lambda record, dropped=dropped: not _starts_with(record, dropped))


def silence_harmless_warnings() -> None:
    """Ignore ``HARMLESS_WARNINGS`` from here on, in this process."""
    for message, category in HARMLESS_WARNINGS:
        warnings.filterwarnings('ignore', message, category)


def _starts_with(record: logging.LogRecord, beginnings: tuple[str, ...]) -> bool:
    return isinstance(record.msg, str) and record.msg.startswith(beginnings)


@CheckpointLoader.register_scheme(prefixes='', force=True)  # pyright: ignore[reportOptionalCall]
def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a local checkpoint; registered for every path without a URL scheme.

    A pickle runs what its author put into it. mmengine first tries torch's restricted unpickler
    and, where that refuses, loads the file unrestricted; the loader of this package does not. The
    other loaders (URLs, object stores) stay mmengine's, and ``strict_loading`` turns their
    unrestricted attempt into an error, ``--trust-checkpoint`` or not.

    The file comes to the CPU whatever ``map_location``: what is loaded from it is copied.
    """
    return load_file(os.path.expanduser(filename))


def strict_loading() -> AbstractContextManager[None]:
    """Make every ``torch.load`` in the block a restricted one, whoever calls it."""
    return weights_only_switch('1')


def compile_forward(model: nn.Module, options: bool | dict | None) -> None:
    """Compile the forward pass of ``model`` in place; names in its ``state_dict`` stay.

    mmengine compiles the whole training step. Its iteration counter and the learning rate are
    numbers that the compiled code depends on, so that every step is compiled anew, until torch
    gives up and runs uncompiled.

    Args:
        model: The model, possibly in DDP.
        options: Entry ``compile`` of a config: a switch, or arguments of ``torch.compile``.
    """
    if options is None or options is False:
        return
    bare_model(model).compile(**({} if options is True else options))


# ``_base_ = ['mmseg::...']`` finds the installed MMSegmentation: mmengine looks for a distribution
# called mmsegmentation, but the maintained one is called onedl-mmsegmentation.
MODULE2PACKAGE['mmseg'] = 'mmseg'
