"""``verify_dataset.py`` names every bad file and does not crash on any file."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from a2mim.datasets import ImageFolder, verification
from bad_images import kinds, write_bad
from toy_run import load_tool

verify = load_tool('prepare_data/verify_dataset')
NAMES = {
    'empty': 'empty',
    'text': 'no image',
    'truncated JPEG': 'truncated',
    'truncated PNG': 'truncated',
    'JPEG bomb': 'too large',
    'PNG bomb': 'too large',
    'array bomb': 'too large',
    'floats': 'values',
    'broken link': 'missing',
    'forbidden': 'forbidden',
}


@pytest.fixture
def root(tmp_path) -> Path:
    """Seventy good images, one of each bad kind, and a file name that is not UTF-8."""
    root = tmp_path / 'data'
    root.mkdir()
    for index in range(70):
        pixels = np.zeros((5 + index, 7, 3), np.uint8)
        Image.fromarray(pixels[..., 0] if index < 2 else pixels).save(root / f'{index:02}.png')
    (root / '33.png').rename(root / os.fsdecode(b'caf\xe9.png'))
    for kind in kinds():
        write_bad(root, kind, f'bad {kind}')
    return root


@pytest.mark.parametrize('workers', [0, 2])
def test_it_lists_exactly_the_bad_files(root, tmp_path, capsys, workers):
    out = tmp_path / 'out.txt'
    options = ['--workers', str(workers), '--out', str(out)]
    assert verify.main([str(root), *options]) == 1
    bad = sorted(root.glob('bad *'))
    assert out.read_bytes().splitlines() == [os.fsencode(path) for path in bad]
    text = capsys.readouterr().out
    assert all(f'{str(path)!r}: ' in text for path in bad)
    assert f'images    70 can be read, {len(kinds())} cannot' in text


@pytest.mark.parametrize('kind', kinds())
def test_every_kind_of_damage_has_a_name(root, kind):
    source = ImageFolder(str(root))
    index = next(i for i in range(len(source)) if f'bad {kind}.' in source.name(i))
    assert verification.check_image(source, index).kind == NAMES[kind]


def test_sizes_and_channels_are_printed(root, capsys):
    verify.main([str(root), '--workers', '0'])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[-4:-1]] == [
        ['smallest', '5×7'],
        ['median', '40×7'],
        ['largest', '74×7'],
    ]
    assert lines[-1] == 'stored as RGB (68), L (2)'


def test_a_clean_folder_ends_with_0_and_an_empty_list(root, tmp_path):
    for path in root.glob('bad *'):
        path.unlink()
    out = tmp_path / 'out.txt'
    assert verify.main([str(root), '--workers', '0', '--out', str(out)]) == 0
    assert out.read_bytes() == b''


def test_a_list_names_the_images(root, tmp_path, capsys):
    listed = tmp_path / 'list.txt'
    listed.write_bytes(b'00.png\nbad empty.jpg\ncaf\xe9.png\n')
    assert verify.main([str(root), '--workers', '0', '--list-file', str(listed)]) == 1
    assert 'images    2 can be read, 1 cannot' in capsys.readouterr().out


def test_its_list_can_be_read_as_a_list(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    assert verify.main(['.', '--workers', '0', '--out', str(tmp_path / 'out.txt')]) == 1
    again = ['.', '--workers', '0', '--list-file', str(tmp_path / 'out.txt')]
    (root / 'bad broken link.jpg').unlink()
    (root / 'bad broken link.jpg').write_bytes(b'')
    assert verify.main(again) == 1


def test_another_number_of_channels_is_found(tmp_path, capsys):
    np.save(tmp_path / 'a.npy', np.zeros((4, 4, 5), np.uint8))
    np.save(tmp_path / 'b.npy', np.zeros((4, 4, 6), np.uint8))
    assert verify.main([str(tmp_path), '--channels', '5', '--workers', '0']) == 1
    text = capsys.readouterr().out
    assert 'stored as 5 bands (1)' in text
    assert '  channels   1' in text


@pytest.mark.parametrize('form', ['webdataset', 'lmdb'])
def test_shards_are_verified_like_folders(root, tmp_path, capsys, form):
    shards = tmp_path / 'shards'
    for path in root.glob('bad *'):
        if not os.access(path, os.R_OK):  # cannot be copied
            path.unlink()
    bad = len(list(root.glob('bad *')))
    load_tool('prepare_data/make_shards').main([str(root), str(shards), '--format', form])
    assert verify.main([str(shards), '--workers', '2', '--out', str(tmp_path / 'out.txt')]) == 1
    names = (tmp_path / 'out.txt').read_text().splitlines()
    assert len(names) == bad
    assert all(name.startswith(str(shards)) and '::' in name for name in names)
    assert 'stored as RGB (68), L (2)' in capsys.readouterr().out


class Deadly(ImageFolder):
    """A folder whose images 3 and 40 end the process that reads them."""

    def load_and_count(self, index: int) -> tuple[Tensor, int]:
        if index in (3, 40):
            os._exit(1)
        return super().load_and_count(index)


def test_an_image_that_kills_its_reader_is_named_and_the_others_are_read(root):
    for path in root.glob('bad *'):
        path.unlink()
    results = sorted(verification.check_images(Deadly(str(root)), 2))
    assert [result.index for result in results] == list(range(70))
    assert {v.index: v.kind for v in results if v.kind} == {3: 'deadly', 40: 'deadly'}


def test_an_invalid_command_ends_with_exit_code_2(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit) as exit_, verify.one_line_errors():
        sys.exit(verify.main([str(tmp_path / 'gone')]))
    assert exit_.value.code == 2
    assert 'is not a folder' in capsys.readouterr().err
