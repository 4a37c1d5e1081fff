"""What does not go together with a sharded model."""

from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from a2mim.engine.sharding.wrapper import FullyShard


def check_sharding(runner: Runner) -> None:
    """Refuse a sharded run that asks for what shares cannot do.

    Raises:
        ValueError: For an average of the weights, which copies the model; for float16, whose loss
            scale would differ between shares; and for a compiled model.
    """
    if not isinstance(runner.model, FullyShard):
        return
    wrapper = runner.cfg.optim_wrapper
    half = wrapper.get('type') == 'AmpOptimWrapper' and wrapper.get('dtype') == 'float16'
    asked = {
        'EMAHook, which copies the model': any(isinstance(h, EMAHook) for h in runner.hooks),
        "optim_wrapper.dtype='float16'; take 'bfloat16', which needs no loss scale": half,
        'compile': bool(runner.cfg.get('compile')),
    }
    for feature, present in asked.items():
        if present:
            raise ValueError(
                f"model_wrapper_cfg.type='FullyShard' does not go together with {feature}; leave "
                'it out, or leave model_wrapper_cfg out to train with DDP'
            )
