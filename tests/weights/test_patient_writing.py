"""A short trouble of the disk is waited for, a lasting one is explained."""

import errno
import os
from pathlib import Path

import pytest

from a2mim.errors import NotWrittenError
from a2mim.weights import files
from a2mim.weights.files import write_atomically


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    waits: list[float] = []
    monkeypatch.setattr(files.time, 'sleep', waits.append)
    return waits


def write(path: Path, needed: int = 4) -> int:
    return write_atomically(path, lambda file: file.write(b'full'), needed, 'Do this.')


def fail(monkeypatch: pytest.MonkeyPatch, code: int, times: int) -> None:
    left, to_disk = [times], files.to_disk

    def sync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(code, os.strerror(code))
        to_disk(descriptor)

    monkeypatch.setattr(files, 'to_disk', sync)


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EIO, errno.ESTALE])
def test_a_trouble_that_passes_costs_a_wait(tmp_path, monkeypatch, waits, code):
    fail(monkeypatch, code, times=2)
    assert write(tmp_path / 'file') == 4
    assert waits == [*files.WAITS]


def test_a_trouble_that_lasts_is_explained(tmp_path, monkeypatch, waits):
    fail(monkeypatch, errno.ENOSPC, times=99)
    pattern = r'file could not be written: No space left .*\(4 bytes needed, [\d,]+ are free\). Do'
    with pytest.raises(NotWrittenError, match=pattern):
        write(tmp_path / 'file')
    assert len(waits) == len(files.WAITS)


def test_a_missing_right_is_not_waited_for(tmp_path, monkeypatch, waits):
    fail(monkeypatch, errno.EACCES, times=99)
    with pytest.raises(NotWrittenError, match='Permission denied'):
        write(tmp_path / 'file')
    assert waits == []


def test_a_folder_that_has_become_something_else_is_explained(tmp_path, waits):
    (tmp_path / 'folder').touch()
    with pytest.raises(NotWrittenError, match=r'Not a directory'):
        write(tmp_path / 'folder' / 'file')


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(tmp_path, waits, monkeypatch):
    touched = []
    monkeypatch.setattr(files, 'put', lambda *args: touched.append(args))
    with pytest.raises(NotWrittenError, match='the disk is full'):
        write(tmp_path / 'file', needed=1 << 60)
    assert touched == []


def test_what_was_there_before_stays(tmp_path, monkeypatch, waits):
    write(tmp_path / 'file')
    fail(monkeypatch, errno.EIO, times=99)
    with pytest.raises(NotWrittenError):
        write_atomically(tmp_path / 'file', lambda file: file.write(b'new'))
    assert (tmp_path / 'file').read_bytes() == b'full'
    assert [path.name for path in tmp_path.iterdir()] == ['file']
