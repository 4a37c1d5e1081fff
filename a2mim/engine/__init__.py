"""Running: hooks, optimisers, schedules, and what the engine below needs mended."""

from a2mim.engine import compat, hooks, loops, optim, schedulers
from a2mim.engine.hooks.checkpoint import CheckpointHook
from a2mim.engine.log_processor import SpeedLogProcessor

__all__ = ['CheckpointHook', 'SpeedLogProcessor', 'compat', 'hooks', 'loops', 'optim', 'schedulers']
