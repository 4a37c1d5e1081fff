"""Attacks on the storage of a run: data that do not answer, disks that are full, folders that move.

A case is a name and a function of two folders, as in ``process_attacks.py``; it raises
``AttackFailedError`` (``expect``) if the run does not do what docs/reliability.md says.
"""

from collections.abc import Callable
from pathlib import Path


def cases() -> list[tuple[str, Callable[[Path, Path], None]]]:
    """Name and function of each attack; a function gets the root folder and one of its own."""
    return []
