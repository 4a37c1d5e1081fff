"""Interactions between image patches by the size of their context ("representation bottleneck")."""

from a2mim.analysis.interactions.draw import draw_interactions
from a2mim.analysis.interactions.estimate import Estimate, estimate, interactions
from a2mim.analysis.interactions.settings import InteractionSettings
from a2mim.analysis.interactions.subjects import (
    Measured,
    check_subjects,
    measure_interactions,
    passes_per_second,
)

__all__ = [
    'Estimate',
    'InteractionSettings',
    'Measured',
    'check_subjects',
    'draw_interactions',
    'estimate',
    'interactions',
    'measure_interactions',
    'passes_per_second',
]
