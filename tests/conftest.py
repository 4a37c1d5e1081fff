"""What every test shares: one thread per process, a seed, and memory that is given back."""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from mmengine.logging import MMLogger
from yapf.yapflib import yapf_api

# Two workers on two cores: more threads per process only wait for each other.
os.environ.setdefault('OMP_NUM_THREADS', '1')
torch.set_num_threads(1)
# Started by nohup or in the background, neither a test nor its processes would hear these signals.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# mmengine formats the config of a run nine times, which takes as long as a few small steps.
format_code = yapf_api.FormatCode


@cache
def formatted(text: str, style: tuple[tuple[str, object], ...]) -> tuple[str, bool]:
    return format_code(text, style_config=dict(style))


yapf_api.FormatCode = lambda text, style_config: formatted(text, tuple(style_config.items()))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Forget loggers of mmengine that write into the output of a test which is over."""
    yield
    for name, logger in list(MMLogger._instance_dict.items()):
        streams = [h.stream for h in logger.handlers if isinstance(h, logging.StreamHandler)]
        if any(getattr(stream, 'closed', False) for stream in streams):
            del MMLogger._instance_dict[name]


def pytest_collection_finish() -> None:
    """Leave what is imported out of later collections, so that each takes milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Free the models of a test: their hooks refer to them, so that they wait for the collector.

    It counts objects, not bytes, and would let gigabytes wait. A test that builds a large model
    takes a while; after the others a collection would take longer than they do.
    """
    start, imported = time.perf_counter(), len(sys.modules)
    yield
    if time.perf_counter() - start > 0.2:
        gc.collect()
        if len(sys.modules) > imported:  # modules stay: later collections leave them out
            gc.freeze()
