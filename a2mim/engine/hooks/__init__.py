"""Hooks: checkpoints that survive a kill, and what a person sees of a run."""

from a2mim.engine.hooks.bad_images import BadImagesHook
from a2mim.engine.hooks.checkpoint import CheckpointHook
from a2mim.engine.hooks.fit_weights import FitWeightsHook
from a2mim.engine.hooks.loss_curve import LossCurveHook
from a2mim.engine.hooks.rank_buffers import RankBuffersHook
from a2mim.engine.hooks.reconstruction import ReconstructionHook
from a2mim.engine.hooks.run_record import RunRecordHook
from a2mim.engine.hooks.step_seed import StepSeedHook
from a2mim.engine.hooks.warmup_ema import WarmupEMAHook

__all__ = [
    'BadImagesHook',
    'CheckpointHook',
    'FitWeightsHook',
    'LossCurveHook',
    'RankBuffersHook',
    'ReconstructionHook',
    'RunRecordHook',
    'StepSeedHook',
    'WarmupEMAHook',
]
