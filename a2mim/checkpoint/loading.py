"""Read a checkpoint without running anything that is in it.

A ``.pth`` file is a pickle, which may name functions to call. Plain data, tensors and what
mmengine's own checkpoints hold pass; there is no way round it for a file that asks for more.
"""

import argparse
import pickle
import re
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from a2mim.checkpoint.safetensors_file import load_safetensors

_multiarray = (getattr(np, '_core', None) or np.core).multiarray
_DTYPES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', '?')


def _history_getattr(owner: object, name: str) -> object:
    """``getattr`` for the statistics that a HistoryBuffer pickles, and for nothing else."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r}) is refused')
    return getattr(owner, name)


# Curves of mmengine's message hub, and the command lines that many released files carry.
SAFE_GLOBALS = [
    HistoryBuffer,
    (_history_getattr, 'builtins.getattr'),
    _multiarray._reconstruct,
    _multiarray.scalar,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in _DTYPES),
    argparse.Namespace,
]
NO_CHECKPOINT = {
    b'<!doctype': 'an HTML page',
    b'<html': 'an HTML page',
    b'<?xml': 'an XML page',
    b'version https://git-lfs': 'a Git LFS pointer',
}


def safe_torch_load(path: str | Path, map_location: str | torch.device | None = 'cpu') -> object:
    """``torch.load`` that never runs code from the file.

    Raises:
        pickle.UnpicklingError: If the file asks for anything but data.
    """
    with torch.serialization.safe_globals(SAFE_GLOBALS):
        return torch.load(path, map_location=map_location, weights_only=True)


def load_file(path: str | Path) -> dict:
    """The content of a ``.safetensors`` or torch checkpoint, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no checkpoint at all, or asks to run code.
    """
    path = Path(path)
    if not path.is_file():
        problem = 'is a folder' if path.is_dir() else 'does not exist'
        raise FileNotFoundError(f'checkpoint {path} {problem}; give the path of a local file')
    with path.open('rb') as file:
        head = file.read(64).lstrip().lower()
    for start, kind in NO_CHECKPOINT.items():
        if head.startswith(start):
            raise ValueError(f'{path} is {kind}, not a checkpoint; download the file itself')
    try:
        content = load_safetensors(path) if path.suffix == '.safetensors' else safe_torch_load(path)
    # A damaged pickle ends in whatever error its bytes happen to mean.
    except Exception as error:
        raise ValueError(_explain(path, error)) from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, not a dict of weights')
    return content


def _explain(path: Path, error: Exception) -> str:
    refused = re.search(r'GLOBAL (\S+)', str(error))
    if refused and isinstance(error, pickle.UnpicklingError):
        return (
            f'{path} asks for {refused[1]} while it is read, which is no data: refused. If you '
            'trust its author, save its state_dict alone, from torch.load(…, weights_only=False)'
        )
    # torch's message begins with the advice to load the file unrestricted; the reason comes last.
    detail = re.search(r'WeightsUnpickler error:\s*(.+)', str(error))
    reason = detail[1] if detail else str(error).strip().split('\n')[0] or type(error).__name__
    return (
        f'{path} ({path.stat().st_size} bytes) is truncated, damaged or no checkpoint '
        f'({reason}); copy or download it again'
    )
