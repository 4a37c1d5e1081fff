"""What mmengine 0.10 needs mended for this package, each with the condition under which it goes.

Importing this package registers the mended classes under the names that configs use anyway.
"""

from a2mim.engine.compat import mmseg_name, quiet, strict_loading
from a2mim.engine.compat.deferred_logging import OptimWrapper, RuntimeInfoHook
from a2mim.engine.compat.mixed_precision import AmpOptimWrapper

__all__ = [
    'AmpOptimWrapper',
    'OptimWrapper',
    'RuntimeInfoHook',
    'mmseg_name',
    'quiet',
    'strict_loading',
]
