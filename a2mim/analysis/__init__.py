"""Why masked modelling works: measurements on trained weights, and what they have in common.

A ``Subject`` is a network to look into, ``AnalysisImages`` are what it is shown, ``PartStore`` lets
an interrupted measurement go on, and ``Results`` writes numbers and figures where the report finds
them.
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
