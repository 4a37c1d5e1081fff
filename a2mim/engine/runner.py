"""The runner of the tools: mmengine's, with a readable log and a useful ``torch.compile``."""

from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn

from a2mim.engine.compat.compiled_forward import compile_forward
from a2mim.engine.compat.quiet import filter_log
from a2mim.engine.hooks.bad_images import BadImagesHook
from a2mim.engine.hooks.checkpoint import CheckpointHook
from a2mim.engine.hooks.finite_guard import FiniteGuardHook
from a2mim.engine.hooks.fit_weights import FitWeightsHook
from a2mim.engine.hooks.rank_buffers import RankBuffersHook
from a2mim.engine.hooks.run_record import RunRecordHook
from a2mim.engine.hooks.step_seed import StepSeedHook
from a2mim.engine.hooks.stop_signal import StopSignalHook
from a2mim.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from a2mim.engine.sharding import FullyShard
from a2mim.registry import MODEL_WRAPPERS

# What every run has: steps that can be repeated, checkpoints of any system read, updates that are
# not finite and images that cannot be read survived, and a stop in time when it is told to.
ALWAYS = (
    StepSeedHook,
    FitWeightsHook,
    RunRecordHook,
    RankBuffersHook,
    FiniteGuardHook,
    BadImagesHook,
    StopSignalHook,
)


class ToolRunner(Runner):
    """mmengine's Runner, except where ``a2mim.engine.compat`` says why."""

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        """Build the logger as mmengine does, without what no person reads."""
        logger = super().build_logger(*args, **kwargs)
        filter_log(logger)
        return logger

    def register_hooks(self, *args: object, **kwargs: object) -> None:
        """Register the hooks of the config, and those of ``ALWAYS`` that it does not configure."""
        super().register_hooks(*args, **kwargs)
        for always in ALWAYS:
            if not any(isinstance(hook, always) for hook in self.hooks):
                self.register_hook(always())

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

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap it as mmengine does, which does not look for wrappers in the scope of the run."""
        if model_wrapper_cfg and 'type' in model_wrapper_cfg:
            kind = MODEL_WRAPPERS.get(model_wrapper_cfg['type'])
            model_wrapper_cfg = {**model_wrapper_cfg, 'type': kind}
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:
        """Build it as mmengine does, and tell it if the model is sharded."""
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if isinstance(self.model, FullyShard):
            self.model.adopt(wrapper)
        return wrapper

    def _init_model_weights(self) -> None:
        # A sharded model was initialised while it was whole.
        if not isinstance(self.model, FullyShard):
            super()._init_model_weights()
