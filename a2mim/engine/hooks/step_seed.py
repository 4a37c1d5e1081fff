"""Each training step draws its own random numbers, whatever happened before it."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.step_seed import seed_step
from a2mim.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed every global generator before each step, from seed, iteration and rank.

    Early, so that what later hooks draw is that of the step too. The runner of the tools registers
    the hook.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Forget what the generators were."""
        seed_step(runner.seed, runner.iter, runner.rank)
