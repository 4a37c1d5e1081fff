"""A run that is cut off between two epochs, as by a kill."""

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
