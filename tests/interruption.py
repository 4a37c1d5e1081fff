"""Hooks that end a run between two epochs or iterations, as a kill does."""

from mmengine.hooks import Hook
from mmengine.runner import Runner


class KilledError(Exception):
    """Raised where the run ends."""


class KillAfterFirstEpoch(Hook):
    """End the run as soon as its first epoch is evaluated and saved."""

    def before_train_epoch(self, runner: Runner) -> None:
        """Let the first epoch pass."""
        if runner.epoch == 1:
            raise KilledError


class KillAfterThirdIteration(Hook):
    """End the run as soon as its third iteration is saved."""

    def before_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Let three iterations pass."""
        if runner.iter == 3:
            raise KilledError
