"""The runner of the tools: mmengine's, with a readable log and a useful ``torch.compile``."""

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from a2mim.engine.compat.compiled_forward import compile_forward
from a2mim.engine.compat.quiet import filter_log
from a2mim.engine.hooks.finite_guard import FiniteGuardHook
from a2mim.engine.hooks.fit_weights import FitWeightsHook
from a2mim.engine.hooks.step_seed import StepSeedHook
from a2mim.engine.hooks.stop_signal import StopSignalHook


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
        self.register_hook(StepSeedHook())
        self.register_hook(FitWeightsHook())
        for guard in (FiniteGuardHook, StopSignalHook):
            # A config may set one up by itself.
            if not any(isinstance(hook, guard) for hook in self.hooks):
                self.register_hook(guard())

    def train(self) -> nn.Module:
        """Train as mmengine does, and give signals back however it ends."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                if isinstance(hook, StopSignalHook):
                    hook.stop_listening()

    def _maybe_compile(self, target: str) -> None:
        compile_forward(self.model, self.cfg.get('compile'))
