"""The import of this module registers what the engine has for configs."""

from a2mim.engine import (
    averaging,
    bad_images,
    checkpointing,
    guard,
    loops,
    mmengine_fixes,
    optimizers,
    pictures,
    preflight,
    resume,
    runner,
    schedulers,
    sharding,
    signals,
    step_seed,
    validation,
)

__all__ = [
    'averaging',
    'bad_images',
    'checkpointing',
    'guard',
    'loops',
    'mmengine_fixes',
    'optimizers',
    'pictures',
    'preflight',
    'resume',
    'runner',
    'schedulers',
    'sharding',
    'signals',
    'step_seed',
    'validation',
]
