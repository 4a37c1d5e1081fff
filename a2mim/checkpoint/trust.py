"""The one way round the strict loader: ``--trust-checkpoint``, which a person gives on purpose.

Trust lasts for one block and one thread; nothing but a tool's command line switches it on.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

OPTION = '--trust-checkpoint'
# torch's own: '1' makes every torch.load a restricted one, whatever its caller asks for.
SWITCH = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'

_trusted: ContextVar[bool] = ContextVar('trusted', default=False)


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Give a tool that reads checkpoints the option."""
    parser.add_argument(
        OPTION,
        action='store_true',
        help='read a checkpoint that holds more than data: it may run any code as you',
    )


@contextmanager
def trust_checkpoints(trust: bool) -> Iterator[None]:
    """Let ``load_file`` read what it refuses otherwise, within the block, if ``trust``."""
    token = _trusted.set(trust)
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Whether files may run code now."""
    return _trusted.get()


def warn(path: Path) -> None:
    """Say on stderr what reading ``path`` unrestricted means."""
    sys.stderr.write(
        f'warning: {OPTION}: {path} holds more than data and is read unrestricted; '
        'it may run any code, with all rights of this user\n'
    )


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
