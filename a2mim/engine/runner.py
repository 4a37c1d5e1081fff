"""The runner of the tools: mmengine's, with a readable log and a useful ``torch.compile``."""

from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner

from a2mim.engine.compat.compiled_forward import compile_forward
from a2mim.engine.compat.deferred_logging import RuntimeInfoHook
from a2mim.engine.compat.quiet import filter_log
from a2mim.engine.hooks.bad_images import BadImagesHook
from a2mim.engine.hooks.fit_weights import FitWeightsHook
from a2mim.engine.hooks.rank_buffers import RankBuffersHook
from a2mim.engine.hooks.run_record import RunRecordHook
from a2mim.engine.hooks.step_seed import StepSeedHook
from a2mim.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop


class ToolRunner(Runner):
    """mmengine's Runner, except where ``a2mim.engine.compat`` says why."""

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        """Build the logger as mmengine does, without what no person reads."""
        logger = super().build_logger(*args, **kwargs)
        filter_log(logger)
        return logger

    def register_hooks(self, *args: object, **kwargs: object) -> None:
        """Register the hooks of the config, and those of every run."""
        super().register_hooks(*args, **kwargs)
        for always in (StepSeedHook, FitWeightsHook, RunRecordHook, RankBuffersHook):
            self.register_hook(always())
        if not any(isinstance(hook, BadImagesHook) for hook in self.hooks):
            self.register_hook(BadImagesHook())

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop of the config, or the one of this package that ``by_epoch`` stands for."""
        if isinstance(loop, dict) and 'type' not in loop:
            options = dict(loop)
            by_epoch = options.pop('by_epoch')
            loop = dict(type=EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop, **options)
        return super().build_train_loop(loop)

    def save_checkpoint(self, *args: object, **kwargs: object) -> None:
        """Save as mmengine does, with every value that waits for its log line."""
        for hook in self.hooks:
            if isinstance(hook, RuntimeInfoHook):
                hook.flush(self)
        super().save_checkpoint(*args, **kwargs)

    def _maybe_compile(self, target: str) -> None:
        compile_forward(self.model, self.cfg.get('compile'))
