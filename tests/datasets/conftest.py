"""The log of a test of sources."""

from collections.abc import Iterator

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def logged(caplog) -> Iterator[pytest.LogCaptureFixture]:
    """``caplog`` has the messages of mmengine's logger, which it does not get otherwise."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
