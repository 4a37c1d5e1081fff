"""What a run logged, and what a config says before it runs."""

from a2mim.analysis.runs.curves import plot_curves
from a2mim.analysis.runs.log import RunLog, read_run
from a2mim.analysis.runs.rates import Rates, read_rates
from a2mim.analysis.runs.summary import find_runs, high_value, median_of_last, over_runs
from a2mim.analysis.runs.times import TrainTime, train_time

__all__ = [
    'Rates',
    'RunLog',
    'TrainTime',
    'find_runs',
    'high_value',
    'median_of_last',
    'over_runs',
    'plot_curves',
    'read_rates',
    'read_run',
    'train_time',
]
