"""A log that a person can read: messages that mean nothing for a run are kept out of it.

Everything that is filtered is named here with the reason. An entry can go once its library no
longer says it.
"""

import logging
import warnings

from mmengine.logging import MMLogger

HARMLESS_WARNINGS = (
    # torch 2.14 renamed this option of DDP; mmengine 0.10 passes the old name.
    ('`broadcast_buffers` is deprecated', FutureWarning),
    # Schedules count iterations; with accumulation the first update comes some iterations later,
    # and the finite guard may skip it.
    (r'Detected call of `scheduler\.step\(\)` before `optimizer\.step\(\)`', UserWarning),
    # A config is written for GPUs and runs on the CPU too.
    ("'pin_memory' argument is set as true but no accelerator is found", UserWarning),
)
# mmengine's CheckpointHook says these about mmengine.
HARMLESS_MESSAGES = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
# Pages of environment, config and hook order, and what a person knows: in the file only.
LONG_MESSAGES = (
    '\n' + 60 * '-' + '\nSystem environment',
    'Config:\n',
    'Hooks will be executed',
    'Distributed training is not used',
    'Exp name:',
    # mmengine has printed the same path a line before.
    'Load checkpoint from',
)


def filter_log(logger: MMLogger) -> None:
    """Drop ``HARMLESS_MESSAGES`` everywhere, and ``LONG_MESSAGES`` on the console."""
    for handler in logger.handlers:
        # A FileHandler is a StreamHandler too.
        to_console = not isinstance(handler, logging.FileHandler)
        dropped = HARMLESS_MESSAGES + LONG_MESSAGES * to_console
        handler.addFilter(lambda record, dropped=dropped: not _starts_with(record, dropped))


def silence_harmless_warnings() -> None:
    """Ignore ``HARMLESS_WARNINGS`` from here on, in this process."""
    for message, category in HARMLESS_WARNINGS:
        warnings.filterwarnings('ignore', message, category)


def _starts_with(record: logging.LogRecord, beginnings: tuple[str, ...]) -> bool:
    return isinstance(record.msg, str) and record.msg.startswith(beginnings)
