"""A second signal ends a process that is deep in one long call; an echo of the first does not."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from a2mim.engine.signals import ECHO
from toy_run import ROOT

pytestmark = pytest.mark.integration

# A call that holds neither the lock of Python nor listens to signals, as a kernel would.
PROGRAM = """
import hashlib, signal, sys, time
from a2mim.engine.signals import SecondSignal

for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: None)
watch = SecondSignal((signal.SIGTERM, signal.SIGUSR1))
if sys.argv[1] == 'stopped':
    watch.stop()
print('listening', flush=True)
if sys.argv[1] == 'stopped':
    sys.exit(time.sleep(5))
hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)
"""


@pytest.fixture
def start() -> Iterator:
    """A function from the state of its watch to a process, which listens by then."""
    processes = []

    def start(state: str) -> subprocess.Popen:
        command = [sys.executable, '-c', PROGRAM, state]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b'listening\n'
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize('second', [signal.SIGTERM, signal.SIGUSR1])
def test_a_second_signal_ends_a_process_in_a_long_call_and_an_echo_does_not(start, second: int):
    process = start('listening')
    for _ in range(3):  # one request
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    time.sleep(ECHO + 0.2)
    assert process.poll() is None
    process.send_signal(second)
    assert process.wait(10) == 128 + second


def test_signals_are_given_back(start) -> None:
    process = start('stopped')
    process.send_signal(signal.SIGTERM)
    time.sleep(ECHO + 0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
