"""Data workers ignore signals and end with the run; a wait for a missing one ends, no other."""

import itertools
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing import reduction

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from a2mim.engine.workers import STOP_SIGNALS, PatientLoader, WorkerStart, end_workers
from a2mim.errors import MissingError

pytestmark = pytest.mark.integration
NUMBER = 12


class Numbers(Dataset):
    """Sample i is the pair of i and the process that made it."""

    def __len__(self) -> int:
        return NUMBER

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, os.getpid()])


@pytest.fixture(autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    end_workers()


def load(context: str, **options: object) -> PatientLoader:
    fixed = dict(num_workers=2, multiprocessing_context=context, prefetch_factor=1)
    return PatientLoader(Numbers(), **{**fixed, **options})


@pytest.mark.parametrize('context', ['fork', 'spawn', 'forkserver'])
@pytest.mark.parametrize('persistent', [False, True])
def test_workers_ignore_what_asks_a_run_to_stop(context, persistent):
    # A process that is not forked imports torch once more.
    workers = 2 if context == 'fork' else 1
    loader = load(context, persistent_workers=persistent, num_workers=workers)
    for _ in range(1 + persistent):
        found = []
        for batch in loader:
            found.append(int(batch[0, 0]))
            for number in STOP_SIGNALS:
                os.kill(int(batch[0, 1]), number)
        assert found == [*range(NUMBER)]


@pytest.mark.parametrize('persistent', [False, True])
@pytest.mark.parametrize(
    ('context', 'number', 'timeout'),
    [
        ('fork', signal.SIGKILL, 0),
        ('fork', signal.SIGSTOP, 2),
        ('spawn', signal.SIGKILL, 0),
    ],
)
def test_a_missing_worker_ends_the_wait_and_is_named(persistent, context, number, timeout):
    batches = iter(load(context, persistent_workers=persistent, timeout=timeout))
    lost = int(next(batches)[0, 1])
    os.kill(lost, number)
    time.sleep(0.5)  # nothing happens while nothing is waited for
    with pytest.raises(MissingError, match=str(lost)):
        for _ in batches:
            pass
    end_workers()  # torch would wait for one that is stopped


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_lost_between_two_passes_is_missing_in_the_second(number):
    loader = load('fork', persistent_workers=True, timeout=2)
    lost = int(list(loader)[-1][0, 1])
    os.kill(lost, number)
    with pytest.raises(MissingError):
        list(loader)
    end_workers()


@pytest.mark.parametrize(('persistent', 'taken'), [(False, 2), (True, 2), (True, None)])
def test_workers_end_when_they_are_told_and_the_next_pass_is_whole(persistent, taken):
    loader = load('fork', persistent_workers=persistent)
    loader.end_workers()  # before there are any
    for _ in range(2):
        batches = iter(loader)
        found = [int(batch[0, 0]) for batch in itertools.islice(batches, taken)]
        assert found == [*range(NUMBER)][:taken]
        assert len(multiprocessing.active_children()) == 2
        loader.end_workers()
        assert multiprocessing.active_children() == []


def test_a_batch_that_is_not_taken_to_the_end_is_no_traceback(capfd):
    here, there = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        WorkerStart(None)(0)
        there.send([reduction.DupFd(1), reduction.DupFd(1)])
        there.recv()
        os._exit(0)
    left, taken = here.recv()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(left._id[0])
    os.close(taken.detach())  # the thread has come to the next one
    here.send('end')
    os.waitpid(pid, 0)
    assert capfd.readouterr().err == ''


def test_errors_of_the_data_stay_what_they_are():
    class Broken(Numbers):
        def __getitem__(self, index: int) -> Tensor:
            raise RuntimeError('DataLoader worker is not to blame')

    with pytest.raises(RuntimeError, match='not to blame') as error:
        list(PatientLoader(Broken(), num_workers=1, multiprocessing_context='fork'))
    assert not isinstance(error.value, MissingError)
