"""From the state of a run to a file that survives, and back to the newest one that is whole."""

from a2mim.engine.checkpointing.background import BackgroundWriter
from a2mim.engine.checkpointing.finite import check_finite
from a2mim.engine.checkpointing.newest import newest_checkpoint
from a2mim.engine.checkpointing.own_state import check_own
from a2mim.engine.checkpointing.run_files import RunFiles
from a2mim.engine.checkpointing.snapshot import snapshot
from a2mim.engine.checkpointing.training_state import describe, training_state
from a2mim.errors import NotFiniteStateError

__all__ = [
    'BackgroundWriter',
    'NotFiniteStateError',
    'RunFiles',
    'check_finite',
    'check_own',
    'describe',
    'newest_checkpoint',
    'snapshot',
    'training_state',
]
