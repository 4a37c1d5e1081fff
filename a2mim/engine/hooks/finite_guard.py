"""Skip an update that is not finite, count it, keep what reproduces it, and stop if it goes on."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.distributed.tensor import DTensor

from a2mim.engine.guard import GuardedStep, UpdateGuard, Verdict, failed_step
from a2mim.engine.guard.device_skip import prefer_fused
from a2mim.errors import NotFiniteError
from a2mim.registry import HOOKS

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
            content = failed_step.describe(runner, self.guard, verdict)
            path = failed_step.write(content, runner.work_dir)
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
            f'python tools/replay_step.py {runner.work_dir}/{failed_step.FOLDER}/FILE says where '
            'it begins; a lower learning rate, clip_grad or bfloat16 in place of float16 help most '
            'often. --resume auto goes on from the checkpoint'
        )
