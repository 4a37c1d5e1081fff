"""The finite guard: an update with a non-finite loss or gradient moves nothing, on any process.

The optimiser wrappers of ``a2mim.engine.compat`` carry the guard, ``FiniteGuardHook`` decides what
follows from a skipped update, and ``StopSignalHook`` sends its request to stop along.
"""

from a2mim.engine.guard.optim_step import GuardedStep
from a2mim.engine.guard.update_guard import UpdateGuard, Verdict

__all__ = ['GuardedStep', 'UpdateGuard', 'Verdict']
