"""The runner of the tools: mmengine's, with a readable log and a useful ``torch.compile``."""

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from a2mim.engine.compat.compiled_forward import compile_forward
from a2mim.engine.compat.quiet import filter_log
from a2mim.engine.hooks.fit_weights import FitWeightsHook
from a2mim.engine.hooks.step_seed import StepSeedHook


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

    def _maybe_compile(self, target: str) -> None:
        compile_forward(self.model, self.cfg.get('compile'))
