"""Before the first iteration: what a run needs is there, and one step of it works.

``hook`` runs the checks; each of the other modules is one of them, or what they share.
"""

from a2mim.engine.preflight.hook import PreflightHook

__all__ = ['PreflightHook']
