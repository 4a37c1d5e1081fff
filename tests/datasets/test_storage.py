"""A storage that does not answer is waited for; a file that is damaged is not."""

import errno
import os
import shutil
import tarfile
import time
from pathlib import Path

import pytest
import torch

from a2mim.datasets import ImageFolder, WebShards, storage
from a2mim.datasets.archives import write_index
from a2mim.datasets.datasets import load_or_substitute
from a2mim.datasets.samplers import SampleKey
from a2mim.datasets.storage import SILENT, Storage
from a2mim.errors import BadDataError, StorageError
from toy_run import write_images


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Waits that take no time; the list has the seconds of each."""
    slept = []
    monkeypatch.setattr(storage.time, 'sleep', slept.append)
    monkeypatch.setattr(storage.time, 'monotonic', lambda: sum(slept))
    return slept


class File:
    """A file that fails ``times`` times."""

    def __init__(self, code: int | None, times: float, path: str = '') -> None:
        self.code, self.times, self.path = code, times, path

    def read(self) -> bytes:
        self.times -= 1
        if self.times >= 0:
            if self.code is None:
                raise OSError('it is not a regular file')
            raise OSError(self.code, os.strerror(self.code), self.path)
        return b'content'


@pytest.mark.parametrize('code', [*sorted(SILENT), errno.ENOENT])
@pytest.mark.parametrize('answers', [False, True])
def test_an_error_of_a_moment_is_waited_for(clock, code, answers):
    file = File(code, 3, '/nowhere/image.png')
    assert Storage('/nowhere').read(file.read, lambda: answers) == b'content'
    assert sum(clock) == 0.5 + 1 + 2


@pytest.mark.parametrize('code', [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_a_storage_that_stays_away_is_told_from_a_damaged_file(clock, code):
    file = File(code, float('inf'), '/nowhere/image.png')
    with pytest.raises(StorageError, match=r"storage of '/nowhere' does not answer .* for 60 s"):
        Storage('/nowhere', patience=60).read(file.read, lambda: False)
    with pytest.raises(OSError) as raised:  # others can be read, so that this file is at fault
        Storage('/nowhere').read(file.read, lambda: True)
    assert raised.value.errno == code


@pytest.mark.parametrize('code', [errno.EACCES, errno.EPERM, errno.ELOOP, errno.EMFILE, None])
def test_an_error_of_the_file_is_not_waited_for(clock, tmp_path, code):
    with pytest.raises(OSError):
        Storage('').read(File(code, 1).read, lambda: False)
    missing = File(errno.ENOENT, float('inf'), str(tmp_path / 'image.png'))
    with pytest.raises(FileNotFoundError):
        Storage('').read(missing.read, lambda: True)
    assert clock == []


def test_a_folder_that_stays_away_is_waited_for_once(clock):
    source = Storage('')
    for expected in (7.5, 7.5):
        with pytest.raises(FileNotFoundError):
            source.read(File(errno.ENOENT, float('inf'), '/gone/image.png').read, lambda: True)
        assert sum(clock) == expected


class Outage:
    """Rename ``path`` away; back it comes at the second wait."""

    def __init__(self, path: Path, monkeypatch) -> None:
        self.path, self.away, self.waits = path, path.with_name('away'), 0
        monkeypatch.setattr(storage.time, 'sleep', self.wait)
        path.rename(self.away)

    def wait(self, seconds: float) -> None:
        self.waits += 1
        if self.waits == 2:
            shutil.rmtree(self.path, ignore_errors=True)
            self.away.rename(self.path)


@pytest.mark.parametrize('part', ['.', 'data', 'data/red'], ids=['above', 'root', 'class'])
@pytest.mark.parametrize('empty', [False, True], ids=['missing', 'empty mount point'])
def test_a_folder_of_images_may_be_away_for_a_moment(tmp_path, monkeypatch, part, empty):
    write_images(tmp_path / 'disk/data', 2)
    source = ImageFolder(str(tmp_path / 'disk/data'))
    key = SampleKey(4)  # of the class 'red'
    expected = source.load(4)
    outage = Outage(tmp_path / 'disk' / part, monkeypatch)
    if empty and part != 'data/red':
        outage.path.mkdir()
    image, _, note = load_or_substitute(source, key, 0)
    assert outage.waits == 2
    assert note['unreadable'] == -1
    assert torch.equal(image, expected)


def test_all_images_gone_is_no_bad_image(tmp_path, monkeypatch):
    write_images(tmp_path / 'data', 2)
    source = ImageFolder(str(tmp_path / 'data'))
    source.storage.patience = 0
    (tmp_path / 'data').rename(tmp_path / 'elsewhere')
    with pytest.raises(StorageError, match='does not answer'):
        load_or_substitute(source, SampleKey.of(0), 0)
    (tmp_path / 'elsewhere').rename(tmp_path / 'data')
    Path(source.name(0)).unlink()
    started = time.monotonic()
    with pytest.raises(BadDataError, match='No such file'):
        source.load(0)
    assert load_or_substitute(source, SampleKey.of(0), 0)[2] == {'unreadable': 0}
    assert time.monotonic() - started < 0.4  # less than one wait


def test_a_shard_is_opened_anew_after_an_error(tmp_path, monkeypatch, clock):
    write_images(tmp_path / 'images', 1)
    with tarfile.open(tmp_path / 'shard-0.tar', 'w') as tar:
        for number, path in enumerate(sorted((tmp_path / 'images').glob('*/*.png'))):
            tar.add(path, f'{number}.png')
    shutil.rmtree(tmp_path / 'images')
    write_index(tmp_path)
    source, stale = WebShards(str(tmp_path)), set()
    expected = source.load(1)
    stale.update(file.fileno() for file in source._files.values())
    pread = os.pread

    def read(descriptor: int, *where: int) -> bytes:
        if descriptor in stale:
            stale.clear()  # the number is free for the next file
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return pread(descriptor, *where)

    monkeypatch.setattr(os, 'pread', read)
    assert torch.equal(source.load(1), expected)
    assert len(source._files) == 1
