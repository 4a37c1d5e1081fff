"""Measurements on trained networks: what they see, how they differ, and one report of all.

A ``Network`` is a network with its preprocessing, ``AnalysisImages`` are the images it is shown,
``PartStore`` saves parts of a long measurement, and ``Results`` writes numbers and figures.
"""

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import (
    Network,
    open_images,
    open_networks,
    open_results,
    read_network,
)
from a2mim.analysis.results import PartStore, Results
from a2mim.options import add_analysis_options

__all__ = [
    'AnalysisImages',
    'Network',
    'PartStore',
    'Results',
    'add_analysis_options',
    'open_images',
    'open_networks',
    'open_results',
    'read_network',
]
