"""One job at a time, and no error that nobody hears of."""

import threading

import pytest

from a2mim.engine.checkpointing import BackgroundWriter


def fail() -> None:
    raise OSError('disk')


def test_a_job_runs_while_the_caller_goes_on():
    gate, done = threading.Event(), []
    writer = BackgroundWriter()
    writer.submit(lambda: (gate.wait(10), done.append(1)))
    writer.check()
    assert done == []
    gate.set()
    writer.wait()
    assert done == [1]


def test_the_next_job_waits_for_the_one_before():
    gate, order = threading.Event(), []
    writer = BackgroundWriter()
    writer.submit(lambda: (gate.wait(10), order.append('first')))
    threading.Timer(0.1, gate.set).start()
    writer.submit(lambda: order.append('second'))
    assert order[0] == 'first'
    writer.wait()
    assert order == ['first', 'second']


@pytest.mark.parametrize('ask', ['check', 'wait', 'submit'])
def test_an_error_is_raised_where_the_caller_asks_next_and_once(ask):
    writer = BackgroundWriter()
    writer.submit(fail)
    writer._job.exception()  # waits
    with pytest.raises(OSError, match='disk'):
        writer.submit(fail) if ask == 'submit' else getattr(writer, ask)()
    writer.check()
