"""A file is the old one or the new one, complete, at whatever step its writer dies or fails."""

import errno
import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from a2mim.weights import files
from a2mim.weights.files import remove_partials, replace_link, write_atomically

OLD, NEW = b'old' * 1000, b'new' * 2000


def write_new(path: Path) -> int:
    return write_atomically(path, lambda file: [file.write(NEW[:3000]) for _ in range(2)])


def exit_code_of_a_fork(program: Callable[[], object]) -> int:
    """Run ``program`` in a process of its own; -9 if it was killed, 0 if it returned."""
    child = os.fork()
    if child == 0:
        try:
            program()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_in(step: str, moment: str) -> None:
    """Let this process be killed before, within or after its first call of ``step``."""
    original = getattr(files, step)

    def die(*args: object) -> None:
        if moment == 'within':
            args[0].write(args[1][:100])
            args[0].flush()
        elif moment == 'after':
            original(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(files, step, die)


# In the order in which they come: the name belongs to the old file up to the end of the rename.
DEATHS = [
    ('put', 'before', OLD),
    ('put', 'within', OLD),
    ('put', 'after', OLD),
    ('to_disk', 'before', OLD),
    ('to_disk', 'after', OLD),
    ('verify', 'before', OLD),
    ('verify', 'after', OLD),
    ('rename', 'before', OLD),
    ('rename', 'after', NEW),
    ('sync_folder', 'before', NEW),
    ('sync_folder', 'after', NEW),
]


@pytest.mark.parametrize('step, moment, left', DEATHS)
def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path, step, moment, left):
    path = tmp_path / 'file'
    path.write_bytes(OLD)
    assert exit_code_of_a_fork(lambda: (die_in(step, moment), write_new(path))) == -9
    assert path.read_bytes() == left
    assert len(remove_partials(tmp_path)) == (left == OLD)
    assert [*tmp_path.iterdir()] == [path]


STEPS = ('put', 'to_disk', 'verify', 'rename')


@pytest.mark.parametrize('step', STEPS)
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def refuse(*args: object) -> None:
        raise OSError(errno.EIO, 'Input/output error')

    path = tmp_path / 'file'
    path.write_bytes(OLD)
    monkeypatch.setattr(files, 'WAITS', ())
    monkeypatch.setattr(files, step, refuse)
    with pytest.raises(OSError, match='Input/output error'):
        write_atomically(path, lambda file: file.write(NEW))
    assert path.read_bytes() == OLD
    assert [*tmp_path.iterdir()] == [path]


def test_torch_save_reports_the_error_of_the_disk_and_not_its_own(tmp_path, monkeypatch):
    def full(file: object, data: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(files, 'WAITS', ())
    monkeypatch.setattr(files, 'put', full)
    with pytest.raises(OSError, match='No space left'):
        write_atomically(tmp_path / 'a.pth', lambda file: torch.save({'a': torch.ones(9999)}, file))
    assert [*tmp_path.iterdir()] == []


def test_a_disk_that_returns_other_bytes_is_noticed(tmp_path, monkeypatch):
    def flip(descriptor: int) -> None:
        os.pwrite(descriptor, b'X', 100)

    monkeypatch.setattr(files, 'WAITS', ())
    monkeypatch.setattr(files, 'to_disk', flip)
    with pytest.raises(OSError, match='the disk returned 6000 bytes with checksum'):
        write_atomically(tmp_path / 'file', lambda file: file.write(NEW))
    assert [*tmp_path.iterdir()] == []


def test_a_limit_of_the_system_on_file_sizes_leaves_the_old_file(tmp_path, capfd):
    path = tmp_path / 'file'
    path.write_bytes(OLD)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        write_new(path)

    assert exit_code_of_a_fork(limited) == 1
    assert 'File too large' in capfd.readouterr().err
    assert path.read_bytes() == OLD
    assert [*tmp_path.iterdir()] == [path]


def test_the_size_is_returned(tmp_path):
    assert write_atomically(tmp_path / 'file', lambda file: file.write(NEW)) == 6000
    assert (tmp_path / 'file').read_bytes() == NEW


def test_a_link_is_replaced_even_where_an_attempt_was_interrupted(tmp_path):
    (tmp_path / f'latest.pth.{os.getpid()}.partial').symlink_to('gone.pth')
    replace_link(tmp_path / 'latest.pth', 'epoch_1.pth')
    replace_link(tmp_path / 'latest.pth', 'epoch_2.pth')
    assert (tmp_path / 'latest.pth').readlink() == Path('epoch_2.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['latest.pth']


@pytest.mark.parametrize('link', ['symlink_to', 'hardlink_to'])
def test_a_link_in_place_of_the_partial_file_is_not_written_through(tmp_path, link):
    precious = tmp_path / 'precious'
    precious.write_bytes(OLD)
    getattr(tmp_path / f'a.pth.{os.getpid()}.partial', link)(precious)
    write_new(tmp_path / 'a.pth')
    assert precious.read_bytes() == OLD
    assert (tmp_path / 'a.pth').read_bytes() == NEW


def test_a_link_in_place_of_the_file_is_replaced_and_not_what_it_names(tmp_path):
    precious = tmp_path / 'precious'
    precious.write_bytes(OLD)
    (tmp_path / 'a.pth').symlink_to(precious)
    write_new(tmp_path / 'a.pth')
    assert precious.read_bytes() == OLD
    assert not (tmp_path / 'a.pth').is_symlink()


def test_only_our_own_partial_files_are_removed(tmp_path):
    others = [
        *('my_download.zip.partial', 'epoch_1.pth.partial', 'a.partial', '.partial', '12.partial'),
        *('a.pth.x1.partial', 'a.pth.1.partial.bak', 'movie.mp4.7.partial', 'pth.7.partial'),
    ]
    ours = ['epoch_1.pth.123.partial', 'latest.pth.9.partial', 'best_a_epoch_3.pth.4194304.partial']
    for name in [*others, *ours]:
        (tmp_path / name).touch()
    (tmp_path / 'folder.pth.1.partial').mkdir()
    (tmp_path / 'link.pth.1.partial').symlink_to(tmp_path / 'a.partial')
    assert remove_partials(tmp_path, '.pth') == sorted([*ours, 'link.pth.1.partial'])
    assert {path.name for path in tmp_path.iterdir()} == {*others, 'folder.pth.1.partial'}
    assert remove_partials(tmp_path) == ['movie.mp4.7.partial', 'pth.7.partial']
