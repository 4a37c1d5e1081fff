"""Loss around trained weights: along random directions, between two networks, along a run."""

from a2mim.analysis.landscape.directions import (
    Weights,
    displaced,
    line,
    random_direction,
    weights_of,
)
from a2mim.analysis.landscape.draw import draw_contours, draw_curve
from a2mim.analysis.landscape.loss import LossOnSet, fixed_batches
from a2mim.analysis.landscape.surface import Axis, measure_surface, parse_axis
from a2mim.analysis.landscape.trajectory import Trajectory, find_trajectory, run_checkpoints

__all__ = [
    'Axis',
    'LossOnSet',
    'Trajectory',
    'Weights',
    'displaced',
    'draw_contours',
    'draw_curve',
    'find_trajectory',
    'fixed_batches',
    'line',
    'measure_surface',
    'parse_axis',
    'random_direction',
    'run_checkpoints',
    'weights_of',
]
