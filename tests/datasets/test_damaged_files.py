"""Files that are no images are refused by name, without memory for what they claim to be."""

import errno
import io
import os
import resource

import numpy as np
import pytest
import torch

from a2mim.datasets import read_image
from a2mim.datasets.decoding import decode_image
from a2mim.errors import BadDataError
from bad_images import encoded, jpeg_bomb, kinds, npy_bomb, png_bomb, tiff_bomb, write_bad

SPARE = 300 * 2**20  # bytes; the smallest bomb would need 4 GB


@pytest.fixture
def little_memory():
    """A limit a little above what the process has."""
    with open('/proc/self/statm') as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize('kind', kinds())
def test_a_bad_file_is_refused_by_name(tmp_path, kind):
    path = write_bad(tmp_path, kind, 'a')
    with pytest.raises(BadDataError, match=rf"cannot read '.*a\{path.suffix}' as an image with 3"):
        read_image(str(path))


@pytest.mark.parametrize(
    ('suffix', 'data', 'channels'),
    [
        ('.jpg', jpeg_bomb(), 3),
        ('.png', png_bomb(), 3),
        ('.npy', npy_bomb(), 3),
        ('.tif', tiff_bomb(3), 3),
        ('.tif', tiff_bomb(5), 5),
    ],
    ids=['JPEG', 'PNG', 'array', 'TIFF', 'bands'],
)
def test_a_bomb_is_refused_before_memory_is_taken(little_memory, suffix, data, channels):
    with pytest.raises(BadDataError, match='pixels'):
        decode_image(data, suffix, channels)


@pytest.mark.parametrize(
    ('descr', 'shape'),
    [
        ('<U100000000', (1000, 1000, 3)),
        ('|S1000000000', (3, 64, 64)),
        ('|V2000000000', (1, 1, 3)),
        ('<c32', (10_000, 10_000, 3)),
        ('<f8', (9_000, 9_000, 3)),
        ([('r', '<f8', (10_000, 10_000)), ('g', '>u2')], (64, 64, 3)),
        (('|u1', (10**4, 10**4)), (1, 3, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_an_array_that_claims_more_bytes_than_follow_is_refused(
    little_memory, descr, shape, channels
):
    file = io.BytesIO()
    form = {'descr': descr, 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, form)
    with pytest.raises(BadDataError, match=r'pixels|values are|truncated'):
        decode_image(file.getvalue(), '.npy', channels)


def test_an_npy_header_nested_too_deeply_is_a_bad_image():
    header = b'-' * 9000 + b'1\n'
    data = b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header
    with pytest.raises(BadDataError):
        decode_image(data, '.npy', 3)


def test_a_file_of_many_bytes_is_refused_before_it_is_read(tmp_path, little_memory):
    with open(tmp_path / 'a.jpg', 'wb') as file:
        file.truncate(10**13)  # takes no room on the disk
    with pytest.raises(BadDataError, match='it has 10000000000000 bytes, more than'):
        read_image(str(tmp_path / 'a.jpg'))


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / 'a.jpg')
    with pytest.raises(BadDataError, match='it is not a regular file'):
        read_image(str(tmp_path / 'a.jpg'))


def test_a_folder_with_the_name_of_an_image_is_refused(tmp_path):
    (tmp_path / 'a.jpg').mkdir()
    with pytest.raises(BadDataError, match='it is not a regular file'):
        read_image(str(tmp_path / 'a.jpg'))


def test_a_file_that_may_not_be_read_is_refused_with_the_reason(tmp_path, monkeypatch):
    def forbid(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / 'a.jpg').write_bytes(encoded('JPEG'))
    monkeypatch.setattr('builtins.open', forbid)
    with pytest.raises(BadDataError, match='Permission denied'):
        read_image(str(tmp_path / 'a.jpg'))


def test_a_shortage_of_the_machine_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    (tmp_path / 'a.jpg').write_bytes(encoded('JPEG'))
    monkeypatch.setattr('builtins.open', fail)
    with pytest.raises(OSError, match='Too many open files'):
        read_image(str(tmp_path / 'a.jpg'))


def test_a_name_that_is_no_utf8_is_read_like_any_other(tmp_path):
    (tmp_path / 'a.png').write_bytes(encoded('PNG'))
    odd = os.path.join(os.fsencode(tmp_path), b'caf\xe9.png')
    os.link(tmp_path / 'a.png', odd)
    read, expected = read_image(os.fsdecode(odd)), read_image(str(tmp_path / 'a.png'))
    assert torch.equal(read, expected)


def test_pickled_objects_in_an_array_are_refused(tmp_path):
    np.save(tmp_path / 'a.npy', np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadDataError, match='allow_pickle=False'):
        read_image(str(tmp_path / 'a.npy'))
