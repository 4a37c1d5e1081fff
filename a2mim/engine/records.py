"""Records of a run: logs, scalars, pictures and lists, none of which ends it.

A record that cannot be written, for want of disk, memory or its folder, warns once and is switched
off. Checkpoints are no records: a run that cannot save ends.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from mmengine.logging import MMLogger
from mmengine.visualization import Visualizer

METHODS = ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars', 'close')


class Record:
    """Something that a run writes beside its checkpoints.

    Args:
        name: What it is, for the warning.
    """

    def __init__(self, name: str) -> None:
        self.name, self.off = name, False

    @contextmanager
    def attempt(self, *others: type[Exception]) -> Iterator[None]:
        """The block writes the record; an error of disk or memory in it switches the record off.

        Args:
            *others: Further errors that do.
        """
        try:
            yield
        except Exception as error:
            shortage = isinstance(error, RuntimeError) and 'memory' in str(error)  # torch's
            if not shortage and not isinstance(error, (OSError, MemoryError, *others)):
                raise
            self.off = True
            reason = str(error).strip().split('\n')[0] or type(error).__name__
            MMLogger.get_current_instance().warning(
                f'{self.name} cannot be written and is switched off, the run proceeds: {reason}'
            )


def guard_visualizer(visualizer: Visualizer) -> None:
    """Make each back end of ``visualizer`` a record, whatever error it raises."""
    for name, backend in visualizer._vis_backends.items():
        record = Record(name)
        for method in METHODS:
            if hasattr(backend, method):
                setattr(backend, method, _recording(record, getattr(backend, method)))
    threading.excepthook = _quiet_writers


def _recording(record: Record, method: Callable[..., Any]) -> Callable[..., None]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:
        if not record.off:
            with record.attempt(Exception):
                method(*args, **kwargs)

    return call


def _quiet_writers(failure: threading.ExceptHookArgs) -> None:
    """Print the error of a thread, but for TensorBoard's, which raises it at its next call too."""
    if type(failure.thread).__module__.partition('.')[0] != 'tensorboard':
        threading.__excepthook__(failure)


def guard_handlers(logger: logging.Logger) -> None:
    """Make each handler of ``logger`` a record, where logging prints a traceback for every line."""
    for handler in logger.handlers:
        vars(handler).update(handleError=_switching_off(handler))


def _switching_off(handler: logging.Handler) -> Callable[[logging.LogRecord], None]:
    kept = Record(getattr(handler, 'baseFilename', 'the log on the console'))

    def handle(record: logging.LogRecord) -> None:
        handler.setLevel(logging.CRITICAL + 1)
        with kept.attempt(Exception):
            raise  # the error of the handler, which logging is handling

    return handle
