"""A file is complete or not there, whatever happens while it is written."""

import pytest
import torch

from a2mim.weights.files import save_file
from a2mim.weights.safe_load import load_file

WEIGHTS = {'a': torch.arange(6.0).view(2, 3).T, 'b': torch.ones(1)}


@pytest.mark.parametrize('name', ['x.pth', 'x.pt', 'x.safetensors', 'new/folder/x.pth'])
def test_what_is_saved_is_read_again(tmp_path, name):
    shared = torch.zeros(4)
    save_file({**WEIGHTS, 'c': shared, 'd': shared[:2]}, tmp_path / name)
    content = load_file(tmp_path / name)
    assert list(content) == ['a', 'b', 'c', 'd']
    assert torch.equal(content['a'], WEIGHTS['a'])


@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, name, monkeypatch):
    path = tmp_path / name
    save_file(WEIGHTS, path)

    def fail(*_args: object, **_options: object) -> None:
        raise OSError('disk full')

    monkeypatch.setattr('torch.save', fail)
    monkeypatch.setattr('a2mim.weights.files.save_safetensors', fail)
    with pytest.raises(OSError, match='disk full'):
        save_file({'a': torch.zeros(1)}, path)
    assert torch.equal(load_file(path)['a'], WEIGHTS['a'])
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'x.ckpt must end in .pth, .pt or .safetensors'):
        save_file(WEIGHTS, tmp_path / 'x.ckpt')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_what_is_said_about_the_tensors_comes_back_beside_them(tmp_path, suffix):
    path, state, meta = tmp_path / f'a{suffix}', {'a': torch.ones(2)}, {'cfg': 'model = dict()'}
    save_file(state, path, meta)
    content = load_file(path)
    assert content['meta'] == meta
    assert torch.equal(content['state_dict']['a'], state['a'])
    save_file(state, path)
    assert load_file(path).keys() == {'a'}


def test_both_formats_can_be_read_by_whoever_may_read_a_new_file(tmp_path):
    (tmp_path / 'new').touch()
    for name in ('a.pth', 'a.safetensors'):
        save_file(WEIGHTS, tmp_path / name)
        assert (tmp_path / name).stat().st_mode == (tmp_path / 'new').stat().st_mode
