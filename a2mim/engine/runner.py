"""The runner of the tools: mmengine's, with a readable log and a useful ``torch.compile``."""

from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from torch import nn

from a2mim.engine.compat.compiled_forward import compile_forward
from a2mim.engine.compat.quiet import filter_log
from a2mim.engine.hooks.checkpoint import CheckpointHook
from a2mim.engine.hooks.finite_guard import FiniteGuardHook
from a2mim.engine.hooks.fit_weights import FitWeightsHook
from a2mim.engine.hooks.rank_buffers import RankBuffersHook
from a2mim.engine.hooks.run_record import RunRecordHook
from a2mim.engine.hooks.step_seed import StepSeedHook
from a2mim.engine.hooks.stop_signal import StopSignalHook
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
        for guard in (FiniteGuardHook, StopSignalHook):
            # A config may set one up by itself.
            if not any(isinstance(hook, guard) for hook in self.hooks):
                self.register_hook(guard())

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop of the config, or the one of this package that ``by_epoch`` stands for."""
        if isinstance(loop, dict) and 'type' not in loop:
            options = dict(loop)
            by_epoch = options.pop('by_epoch')
            loop = dict(type=EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop, **options)
        return super().build_train_loop(loop)

    def train(self) -> nn.Module:
        """Train as mmengine does; whatever ends it, checkpoints and signals are seen to."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                if isinstance(hook, StopSignalHook):
                    hook.stop_listening()
                if isinstance(hook, CheckpointHook):
                    hook.finish(self)

    def _maybe_compile(self, target: str) -> None:
        compile_forward(self.model, self.cfg.get('compile'))
