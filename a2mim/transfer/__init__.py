"""Our weights in detectors and segmentors: what a config of those packages imports.

    custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)

The import registers the names under ``a2mim.``, makes checkpoints load safely, and puts operators
where mmcv has none. Neither MMDetection nor MMSegmentation is imported here.
"""

from a2mim.engine import registered
from a2mim.transfer import data
from a2mim.transfer.operators import install
from a2mim.transfer.weights import TrunkPretrained

install()

__all__ = ['TrunkPretrained', 'data', 'install', 'registered']
