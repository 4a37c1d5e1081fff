"""Read a checkpoint without running anything that is in it.

A ``.pth`` file is a pickle, which may name functions to call. Plain data, tensors and what
checkpoints of mmengine and mmcv hold pass. A file that asks for more is refused, unless the person
at the command line has said ``--trust-checkpoint``. Trust lasts for one block and one thread, and
nothing but a tool's command line switches it on.
"""

import argparse
import importlib
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import safe_open
from torch import Tensor

from a2mim.options import LATEST, TRUST, WEIGHTS, last_of_run

# torch's own: '1' makes every torch.load a restricted one, whatever its caller asks for.
SWITCH = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'

_trusted: ContextVar[bool] = ContextVar('trusted', default=False)
_weights: ContextVar[str] = ContextVar('weights', default='averaged')
_multiarray = importlib.import_module(
    'numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray'
)
_DTYPES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', '?')


def _history_getattr(owner: object, name: str) -> object:
    """``getattr`` for the statistics that a HistoryBuffer pickles, and for nothing else."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r}) is refused')
    return getattr(owner, name)


# Curves of mmengine's message hub, numbers of numpy in the ``meta`` of mmcv's files (numpy 1 and 2
# call their home differently), and the command lines that many released files carry.
SAFE_GLOBALS = [
    HistoryBuffer,
    (_history_getattr, 'builtins.getattr'),
    *(
        (getattr(_multiarray, name), f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    ),
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


@contextmanager
def trust_checkpoints(trust: bool) -> Iterator[None]:
    """Let ``load_file`` read what it refuses otherwise, within the block, if ``trust``."""
    token = _trusted.set(trust)
    try:
        yield
    finally:
        _trusted.reset(token)


@contextmanager
def choose_weights(kind: str) -> Iterator[None]:
    """Prefer one of ``WEIGHTS`` within the block, where a checkpoint has both.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in WEIGHTS:
        raise ValueError(f'weights={kind!r} must be one of {", ".join(WEIGHTS)}')
    token = _weights.set(kind)
    try:
        yield
    finally:
        _weights.reset(token)


def asked_weights() -> str:
    """Which of ``WEIGHTS`` are asked for here."""
    return _weights.get()


@contextmanager
def reading(args: argparse.Namespace) -> Iterator[None]:
    """Read checkpoints within the block as ``add_reading_options`` was answered."""
    with trust_checkpoints(args.trust_checkpoint), choose_weights(args.weights):
        yield


@contextmanager
def weights_only_switch(value: str) -> Iterator[None]:
    """Set torch's switch within the block."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


def load_safetensors(path: str | Path) -> dict[str, Tensor] | dict[str, dict]:
    """Tensors by name; where the header tells more than its format, ``state_dict`` and ``meta``."""
    with safe_open(path, framework='pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        meta = dict(file.metadata() or {})
    meta.pop('format', None)
    return {'state_dict': tensors, 'meta': meta} if meta else tensors


def safe_torch_load(
    path: str | Path, map_location: str | torch.device | None = 'cpu', *, mmap: bool = False
) -> object:
    """``torch.load`` that never runs code from the file.

    With ``mmap`` tensors stay on the disk until they are used.

    Raises:
        pickle.UnpicklingError: If the file asks for anything but data.
    """
    with torch.serialization.safe_globals(SAFE_GLOBALS):
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)


def checkpoint_of(path: str | Path) -> Path:
    """``path`` itself, or the last checkpoint of the run whose folder it is.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    file = last_of_run(path)
    if not file.is_file():
        problem = f'is a folder and has no {LATEST}' if file.is_dir() else 'does not exist'
        raise FileNotFoundError(f'checkpoint {path} {problem}; give the path of a local file')
    return file


def load_file(path: str | Path) -> dict:
    """The content of a ``.safetensors`` or torch checkpoint, or of the last one of a run's folder.

    Tensors are on the CPU. Within ``trust_checkpoints(True)`` a torch file may run code, after a
    warning.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no checkpoint at all, or asks to run code.
    """
    path = checkpoint_of(path)
    refuse_other_formats(path)
    try:
        content = load_safetensors(path) if path.suffix == '.safetensors' else safe_torch_load(path)
    # A damaged pickle ends in whatever error its bytes happen to mean.
    except Exception as error:
        refusal = find_refusal(error)
        if refusal is None:
            raise ValueError(_explain(path, error)) from error
        if not _trusted.get():
            raise ValueError(
                f'{path} {refusal}: refused. If you trust its author, add {TRUST} to a command '
                'line of this package: the file may then run any code with your rights'
                f'{_module_advice(path, refusal)}'
            ) from error
        content = weights_of_modules(unsafe_torch_load(path))
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, not a dict of weights')
    return content


def weights_of_modules(content: object) -> object:
    """``content`` with the ``state_dict()`` of every pickled module, itself one or in a dict."""
    if isinstance(content, torch.nn.Module):
        return content.state_dict()
    if isinstance(content, dict):
        return {key: weights_of_modules(value) for key, value in content.items()}
    return content


def _module_advice(path: Path, refusal: str) -> str:
    """How to make weights of a file that looks like a pickled module."""
    asked = re.match(r'asks for ([\w.]+) ', refusal)
    if asked is None or not re.search(r'\.[A-Z]\w*$', asked[1]):
        return ''
    return (
        f'; or, if it is a whole network (torch.save(model)), where {asked[1]} can be imported: '
        f"torch.save(torch.load('{path}', weights_only=False).state_dict(), 'weights.pth')"
    )


def refuse_other_formats(path: Path) -> None:
    """Name what is in a file that is no checkpoint, or is named like another kind of one.

    Raises:
        ValueError: If its first bytes say so.
    """
    with path.open('rb') as file:
        head = file.read(64)
    for start, kind in NO_CHECKPOINT.items():
        if head.lstrip().lower().startswith(start):
            raise ValueError(f'{path} is {kind}, not a checkpoint; download the file itself')
    # After eight bytes that may be any, which is why this comes before the look at the first ones.
    if head[8:10] == b'{"':
        if path.suffix != '.safetensors':
            raise ValueError(f'{path} is a safetensors file; name it .safetensors')
    elif head.startswith((b'PK', b'\x80')) and path.suffix == '.safetensors':
        raise ValueError(f'{path} is a torch file, no safetensors file; name it .pth')


def find_refusal(error: Exception) -> str | None:
    """What a file asks for that is no data; None if ``error`` means something else."""
    asked = re.search(r'GLOBAL (\S+)', str(error))
    if asked and isinstance(error, pickle.UnpicklingError):
        return f'asks for {asked[1]} while it is read, which is no data'
    archive = re.search(r'TorchScript(?= archive)|tar(?= format)', str(error))
    if archive and isinstance(error, RuntimeError):
        return f'is a {archive[0]} archive, which torch cannot read without running what is in it'
    return None


def unsafe_torch_load(path: Path) -> object:
    """``torch.load`` that runs what the file asks for; the warning comes first.

    Raises:
        ValueError: If the file is damaged.
    """
    sys.stderr.write(
        f'warning: {TRUST}: {path} holds more than data and is read unrestricted; '
        'it may run any code, with all rights of this user\n'
    )
    try:
        with weights_only_switch('0'):
            return torch.load(path, map_location='cpu', weights_only=False)
    except Exception as error:
        raise ValueError(_explain(path, error)) from error


def _explain(path: Path, error: Exception) -> str:
    # torch's message begins with the advice to load the file unrestricted; the reason comes last.
    detail = re.search(r'WeightsUnpickler error:\s*(.+)', str(error))
    reason = detail[1] if detail else str(error).strip().split('\n')[0] or type(error).__name__
    return (
        f'{path} ({path.stat().st_size} bytes) is truncated, damaged or no checkpoint '
        f'({reason}); copy or download it again'
    )


def peek(path: Path) -> dict:
    """The content of a torch file whose tensors stay on the disk until they are used.

    Within ``trust_checkpoints(True)`` the file may run code, after a warning.

    Raises:
        ValueError: If it cannot be read; the message is the reason.
    """
    if path.stat().st_size == 0:
        raise ValueError('it is empty')
    if not zipfile.is_zipfile(path):
        raise ValueError('it is cut off, or no file of torch.save')
    try:
        content = safe_torch_load(path, mmap=True)
    # A damaged pickle ends in whatever error its bytes happen to mean.
    except Exception as error:
        refusal = find_refusal(error)
        if refusal is None:
            raise ValueError(f'it cannot be read ({str(error).splitlines()[0][:120]})') from error
        if not _trusted.get():
            raise ValueError(f'it {refusal}: refused without {TRUST}') from error
        content = unsafe_torch_load(path)
    if not isinstance(content, dict):
        raise ValueError(f'it holds a {type(content).__name__}')
    return content


def check_members(path: Path) -> None:
    """Compare every member of the archive, so every byte of the tensors, with its checksum.

    Raises:
        ValueError: If one differs; the message is the reason.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f'its archive is damaged ({error})') from error
    if damaged is not None:
        raise ValueError(f'the checksum of {damaged} in it is wrong')
