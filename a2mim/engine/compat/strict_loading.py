"""Strict checkpoint loading for every way in which mmengine reads a checkpoint.

A checkpoint is a pickle, and an unrestricted pickle runs what its author put into it. mmengine
0.10 first tries torch's restricted unpickler and, where that refuses, loads the file unrestricted.
Here the loader of local paths is the package's own, which knows no such fall-back; the other
loaders (URLs, object stores) stay mmengine's, and torch's own switch turns their fall-back into
an error, ``--trust-checkpoint`` or not. This file can go once mmengine lets its callers ask for
``weights_only=True``.
"""

import os
from contextlib import AbstractContextManager
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from a2mim.weights.safe_load import SWITCH, load_file, weights_only_switch

__all__ = ['SWITCH', 'load_from_local', 'strict_loading']


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a local checkpoint; registered for every path without a URL scheme.

    It comes to the CPU whatever ``map_location``: loading it into a model or an optimiser copies.
    """
    return load_file(os.path.expanduser(filename))


def strict_loading() -> AbstractContextManager[None]:
    """Make every ``torch.load`` in the block a restricted one, whoever calls it."""
    return weights_only_switch('1')
