"""Strict checkpoint loading for every way in which mmengine reads a checkpoint.

A checkpoint is a pickle, and an unrestricted pickle runs what its author put into it. mmengine
0.10 first tries torch's restricted unpickler and, where that refuses, loads the file unrestricted.
Here the loader of local paths is the package's own, which knows no such fall-back; the other
loaders (URLs, object stores) stay mmengine's, and torch's own switch turns their fall-back into
an error. This file can go once mmengine lets its callers ask for ``weights_only=True``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from a2mim.checkpoint import load_file

SWITCH = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a local checkpoint; registered for every path without a URL scheme.

    It comes to the CPU whatever ``map_location``: loading it into a model or an optimiser copies.
    """
    return load_file(os.path.expanduser(filename))


@contextmanager
def strict_loading() -> Iterator[None]:
    """Make every ``torch.load`` in the block a restricted one, whoever calls it."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = '1'
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before
