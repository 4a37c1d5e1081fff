"""What a log leaves out, and what not."""

import logging
import warnings
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from a2mim.engine.mmengine_fixes import (
    HARMLESS_MESSAGES,
    LONG_MESSAGES,
    filter_log,
    silence_harmless_warnings,
)


def console_and_file(tmp_path: Path, message: str) -> list[bool]:
    """Whether a message passes the console's filters and those of the file."""
    logger = MMLogger(f'quiet {tmp_path}', log_file=str(tmp_path / 'run.log'))
    filter_log(logger)
    record = logging.LogRecord('name', logging.WARNING, '', 0, message, None, None)
    handlers = sorted(logger.handlers, key=lambda item: isinstance(item, logging.FileHandler))
    return [bool(handler.filter(record)) for handler in handlers]


@pytest.mark.parametrize('beginning', HARMLESS_MESSAGES)
def test_what_the_engine_says_about_itself_is_dropped(tmp_path, beginning):
    assert console_and_file(tmp_path, beginning + ' and so on') == [False, False]


@pytest.mark.parametrize('beginning', LONG_MESSAGES)
def test_pages_go_to_the_file_only(tmp_path, beginning):
    assert console_and_file(tmp_path, beginning + ' and so on') == [False, True]


def test_everything_else_stays(tmp_path):
    assert console_and_file(tmp_path, 'the loss is not finite') == [True, True]


def test_other_warnings_stay():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        silence_harmless_warnings()
        warnings.warn('`broadcast_buffers` is deprecated, use ...', FutureWarning, stacklevel=1)
        warnings.warn('this one matters', UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ['this one matters']
