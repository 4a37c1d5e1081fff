"""Loss around trained weights: along random directions, between two networks, along a run."""

from a2mim.analysis.landscape.directions import (
    Weights,
    displaced,
    line,
    random_direction,
    weights_of,
)
from a2mim.analysis.landscape.draw import (
    Surface,
    draw_contours,
    draw_curves,
    draw_trajectory,
)
from a2mim.analysis.landscape.loss import LossOnSet, fixed_batches
from a2mim.analysis.landscape.network import label_of, read_network
from a2mim.analysis.landscape.surface import Axis, measure_surface, open_shared_store, parse_axis
from a2mim.analysis.landscape.trajectory import Trajectory, find_trajectory, run_checkpoints

__all__ = [
    'Axis',
    'LossOnSet',
    'Surface',
    'Trajectory',
    'Weights',
    'displaced',
    'draw_contours',
    'draw_curves',
    'draw_trajectory',
    'find_trajectory',
    'fixed_batches',
    'label_of',
    'line',
    'measure_surface',
    'open_shared_store',
    'parse_axis',
    'random_direction',
    'read_network',
    'run_checkpoints',
    'weights_of',
]
