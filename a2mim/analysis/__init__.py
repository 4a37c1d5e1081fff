"""Measurements on trained networks: what they see, how they differ, and one report of all.

A ``Subject`` is a network with its preprocessing, ``AnalysisImages`` are the images it is shown,
``PartStore`` saves parts of a long measurement, and ``Results`` writes numbers and figures.
"""

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import (
    Subject,
    add_analysis_options,
    open_images,
    open_results,
    open_subjects,
    read_subject,
)
from a2mim.analysis.results import PartStore, Results

__all__ = [
    'AnalysisImages',
    'PartStore',
    'Results',
    'Subject',
    'add_analysis_options',
    'open_images',
    'open_results',
    'open_subjects',
    'read_subject',
]
