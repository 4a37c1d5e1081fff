"""A block that a signal ends: it cleans up, and its exit code is that of the signal."""

import os
import signal

import pytest

from a2mim.engine.signals import ending_on_signals

NUMBERS = (signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize('number', NUMBERS)
def test_a_library_that_takes_the_end_for_an_error_does_not_change_the_code(number):
    before = [signal.getsignal(each) for each in NUMBERS]
    with pytest.raises(SystemExit) as exit_, ending_on_signals():
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            raise SyntaxError('failed to format') from None
    assert exit_.value.code == 128 + number
    assert [signal.getsignal(each) for each in NUMBERS] == before


def test_an_error_without_a_signal_stays_itself():
    with pytest.raises(ValueError, match='mine'), ending_on_signals():
        raise ValueError('mine')
