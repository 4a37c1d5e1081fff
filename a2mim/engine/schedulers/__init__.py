"""Learning-rate schedules of the published recipes."""

from a2mim.engine.schedulers.cosine import OverlapCosineLR, WarmupCosineLR
from a2mim.engine.schedulers.step import WarmupStepLR
from a2mim.engine.schedulers.warmup import WarmupLR

__all__ = ['OverlapCosineLR', 'WarmupCosineLR', 'WarmupLR', 'WarmupStepLR']
