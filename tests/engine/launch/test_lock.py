"""Two runs cannot share a work dir, and a run that is dead does not hold one."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from a2mim.engine.processes import NAME, WorkDirLock

HOLDER = """
import sys, time
from a2mim.engine.processes import WorkDirLock
with WorkDirLock() as lock:
    lock.take(sys.argv[1])
    print('locked', flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_told_who_the_first_one_is(tmp_path: Path):
    with WorkDirLock() as first, WorkDirLock(patience=0) as second:
        first.take(str(tmp_path))
        with pytest.raises(ValueError, match=rf'process {os.getpid()}, since .* --work-dir'):
            second.take(str(tmp_path))


def test_a_lock_is_given_back_when_the_block_ends(tmp_path: Path):
    for _ in range(2):
        with WorkDirLock(patience=0) as lock:
            assert lock.take(str(tmp_path)) is None
            assert f'process {os.getpid()}' in (tmp_path / NAME).read_text()
    assert (tmp_path / NAME).read_text() == ''


def test_a_refused_run_leaves_the_lock_to_its_holder(tmp_path: Path):
    with WorkDirLock() as first:
        first.take(str(tmp_path))
        for _ in range(2):
            with pytest.raises(ValueError), WorkDirLock(patience=0) as second:
                second.take(str(tmp_path))
        assert f'process {os.getpid()}' in (tmp_path / NAME).read_text()


def test_other_folders_are_free(tmp_path: Path):
    with WorkDirLock() as first, WorkDirLock(patience=0) as second:
        assert first.take(str(tmp_path / 'a')) is None
        assert second.take(str(tmp_path / 'b')) is None


@pytest.mark.integration
def test_a_killed_run_holds_nothing(tmp_path: Path):
    command = [sys.executable, '-c', HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'locked\n'
        with pytest.raises(ValueError, match=f'process {holder.pid},'):
            WorkDirLock(patience=0).take(str(tmp_path))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with WorkDirLock(patience=0) as lock:
            assert lock.take(str(tmp_path)) is None


def test_a_run_that_is_about_to_end_is_waited_for(tmp_path: Path):
    first = WorkDirLock()
    first.take(str(tmp_path))
    ending = threading.Timer(0.5, first.__exit__)
    ending.start()
    started = time.monotonic()
    with WorkDirLock(patience=30) as second:
        assert second.take(str(tmp_path)) is None
    assert time.monotonic() - started >= 0.4
    ending.join()


def test_a_folder_that_cannot_be_written_is_an_error_with_the_option(tmp_path: Path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match=r'cannot be written \(.*--work-dir'):
        WorkDirLock().take(str(tmp_path / 'file'))


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, 'No locks available')


def test_a_file_system_without_locks_is_said_and_not_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fcntl, 'flock', no_locks)
    with WorkDirLock(patience=0) as lock:
        assert 'has no locks' in lock.take(str(tmp_path))


@pytest.mark.parametrize('link', ['symlink_to', 'hardlink_to'])
@pytest.mark.parametrize('content', ['precious', ''])
def test_a_lock_that_is_a_link_is_refused_and_what_it_names_stays(tmp_path, link, content):
    precious = tmp_path / 'precious'
    precious.write_text(content)
    (tmp_path / 'run').mkdir()
    getattr(tmp_path / 'run' / NAME, link)(precious)
    with pytest.raises(OSError, match=r'cannot be written \(.*remove it'), WorkDirLock() as lock:
        lock.take(str(tmp_path / 'run'))
    assert precious.read_text() == content


def test_a_dangling_link_makes_no_file(tmp_path):
    (tmp_path / NAME).symlink_to(tmp_path / 'gone')
    with pytest.raises(OSError, match='remove it'), WorkDirLock() as lock:
        lock.take(str(tmp_path))
    assert not (tmp_path / 'gone').exists()


def test_a_fifo_is_refused(tmp_path):
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(OSError, match='cannot be written'), WorkDirLock() as lock:
        lock.take(str(tmp_path))


@pytest.mark.parametrize('locks', [True, False])
@pytest.mark.parametrize('content', [b'apt lock of mine', b'\xff\0', b'host'])
def test_a_file_of_somebody_else_is_not_emptied(tmp_path, monkeypatch, content, locks):
    if not locks:
        monkeypatch.setattr(fcntl, 'flock', no_locks)
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ValueError, match=r'is not the lock of a run'), WorkDirLock() as lock:
        lock.take(str(tmp_path))
    assert (tmp_path / NAME).read_bytes() == content


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path):
    (tmp_path / NAME).write_text('host a-b.c, process 7, since 2026-01-01 00:00:00\n')
    with WorkDirLock(patience=0) as lock:
        lock.take(str(tmp_path))
        assert f'process {os.getpid()}' in (tmp_path / NAME).read_text()
        assert (tmp_path / NAME).read_text().count('host') == 1
