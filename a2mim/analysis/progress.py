"""A bar over what a measurement still has to do."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from mmengine.dist import is_main_process
from rich.console import Console
from rich.markup import escape
from rich.progress import track

T = TypeVar('T')


def progress(items: Sequence[T], label: str) -> Iterable[T]:
    """``items``, with a bar on standard error while they are worked off.

    Only the first process draws it, and only in a terminal.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and is_main_process()
    return track(items, escape(label), console=console, disable=not shown)
