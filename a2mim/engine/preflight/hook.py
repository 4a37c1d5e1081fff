"""The checks before training, one line of the log each."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.preflight.batches import check_batches
from a2mim.engine.preflight.disk import check_disk
from a2mim.engine.preflight.dry_step import dry_step
from a2mim.engine.preflight.shared_memory import check_shared_memory
from a2mim.engine.preflight.undisturbed import undisturbed
from a2mim.registry import HOOKS

# Cheapest first; a check returns what it found, and raises a ValueError where that is not enough.
CHECKS = (check_disk, check_batches, check_shared_memory, dry_step)


@HOOKS.register_module()
class PreflightHook(Hook):
    """Check disk, batches and shared memory and try one step, before any work can be lost.

    It runs when weights and optimiser are as training will meet them, in a resumed run too, and
    leaves no trace: the run is bit for bit the one that was not checked. ``tools/train.py``
    registers it unless ``--no-preflight`` is given.
    """

    priority = 'HIGH'

    def before_train(self, runner: Runner) -> None:
        """Run the checks in every process.

        Raises:
            ValueError: If something is missing or does not work.
        """
        with undisturbed(runner.model):
            for check in CHECKS:
                runner.logger.info(f'preflight: {check(runner)}')
