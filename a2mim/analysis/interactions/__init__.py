"""Interactions between image patches by the size of their context ("representation bottleneck")."""

from a2mim.analysis.interactions.checks import check_subjects
from a2mim.analysis.interactions.draw import draw_interactions
from a2mim.analysis.interactions.estimate import (
    Estimate,
    estimate_rows,
    estimate_strength,
    interactions,
)
from a2mim.analysis.interactions.settings import InteractionSettings
from a2mim.analysis.interactions.subjects import (
    Measured,
    file_name,
    measure_interactions,
    passes_per_second,
)

__all__ = [
    'Estimate',
    'InteractionSettings',
    'Measured',
    'check_subjects',
    'draw_interactions',
    'estimate_rows',
    'estimate_strength',
    'file_name',
    'interactions',
    'measure_interactions',
    'passes_per_second',
]
