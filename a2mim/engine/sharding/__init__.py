"""Models that are too large for DDP: every process holds a share of each tensor.

``FullyShard`` wraps a model where DDP would; hooks, tools and checkpoints stay as they are.
"""

from a2mim.engine.sharding.refusals import check_sharding
from a2mim.engine.sharding.wrapper import FullyShard

__all__ = ['FullyShard', 'check_sharding']
