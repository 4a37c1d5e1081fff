"""Trained trunks for other libraries, each read back there before it counts as written."""

from a2mim.export.photograph import read_photograph
from a2mim.export.published import publish
from a2mim.export.run import TARGETS, check_path, export
from a2mim.export.source import Source, read_source
from a2mim.export.target import TOLERANCE, Check, Target

__all__ = [
    'TARGETS',
    'TOLERANCE',
    'Check',
    'Source',
    'Target',
    'check_path',
    'export',
    'publish',
    'read_photograph',
    'read_source',
]
