"""Files are read without running what is in them, and a bad one is explained."""

import argparse
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from safetensors.torch import save_file as save_safetensors

from a2mim.weights.safe_load import load_file, safe_torch_load

WEIGHTS = {'conv.weight': torch.arange(3000.0)}


class Malicious:
    """Unpickling this creates the file ``target``."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.target}',)


def test_torch_and_safetensors_files_are_read(tmp_path):
    torch.save(dict(state_dict=WEIGHTS), tmp_path / 'a.pth')
    save_safetensors(WEIGHTS, tmp_path / 'a.safetensors')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'latest.pth').symlink_to(tmp_path / 'a.pth')
    assert torch.equal(
        load_file(tmp_path / 'run')['state_dict']['conv.weight'], WEIGHTS['conv.weight']
    )
    nested, flat = load_file(tmp_path / 'a.pth'), load_file(str(tmp_path / 'a.safetensors'))
    for weights in (nested['state_dict'], flat):
        assert torch.equal(weights['conv.weight'], WEIGHTS['conv.weight'])


def test_what_a_training_run_of_mmengine_saves_is_read(tmp_path):
    hub = MessageHub('loading')
    hub.update_scalar('train/loss', 0.5)
    hub.update_info('numbers', np.arange(3))
    args = argparse.Namespace(model='mae')
    torch.save(dict(message_hub=hub.state_dict(), args=args), tmp_path / 'a.pth')
    content = load_file(tmp_path / 'a.pth')
    curve = content['message_hub']['log_scalars']['train/loss']
    assert isinstance(curve, HistoryBuffer)
    assert curve.current() == 0.5
    assert content['args'].model == 'mae'


@pytest.mark.parametrize('zipped', [True, False])
def test_a_malicious_file_never_runs(tmp_path, zipped):
    target, path = tmp_path / 'target', tmp_path / 'a.pth'
    content = dict(state_dict=WEIGHTS, meta=Malicious(target))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'a.pth asks for \w+.system while it is read.*refused'):
        load_file(path)
    assert not target.exists()


class Reaching:
    """Unpickling this reaches for an attribute of something that is no HistoryBuffer."""

    def __reduce__(self) -> tuple:
        return getattr, (HistoryBuffer, '__init__')


def test_attributes_are_read_of_curves_alone(tmp_path):
    torch.save(Reaching(), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='asks for getattr'):
        load_file(tmp_path / 'a.pth')


def truncated(path: Path) -> None:
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:6000])


def truncated_legacy(path: Path) -> None:
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:6000])


@pytest.mark.parametrize(
    'write, words',
    [
        (truncated, r'\(6000 bytes\) is truncated, damaged or no checkpoint'),
        (truncated_legacy, r'\(6000 bytes\) is truncated, damaged or no checkpoint'),
        (lambda path: path.write_bytes(b''), r'\(0 bytes\) is truncated'),
        (lambda path: path.write_text('not a checkpoint at all'), 'no checkpoint'),
        (lambda path: path.write_bytes(bytes(range(256))), 'no checkpoint'),
        (lambda path: path.write_text('\n<!DOCTYPE html><p>Not found'), 'an HTML page'),
        (lambda path: path.write_text('version https://git-lfs.github.com/spec/v1'), 'Git LFS'),
        (lambda path: torch.save([1, 2], path), 'holds a list, not a dict'),
    ],
    ids=['truncated', 'legacy', 'empty', 'text', 'noise', 'html', 'lfs', 'list'],
)
def test_what_is_no_checkpoint_is_named(tmp_path, write, words):
    path = tmp_path / 'a.pth'
    write(path)
    with pytest.raises(ValueError, match=rf'a.pth.*{words}') as error:
        load_file(path)
    assert 'weights_only' not in str(error.value)  # torch advises to switch the guard off


def test_a_truncated_safetensors_file_is_named(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_safetensors(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(ValueError, match=r'a.safetensors \(6000 bytes\) is truncated'):
        load_file(path)


@pytest.mark.parametrize(
    'name, problem', [('none.pth', 'does not exist'), ('', r'is a folder and has no latest\.pth')]
)
def test_a_missing_file_is_named(tmp_path, name, problem):
    with pytest.raises(FileNotFoundError, match=problem):
        load_file(tmp_path / name)


def test_the_loader_under_it_takes_a_device(tmp_path):
    torch.save(WEIGHTS, tmp_path / 'a.pth')
    content = safe_torch_load(tmp_path / 'a.pth', map_location='meta')
    assert content['conv.weight'].device.type == 'meta'


def test_numbers_of_numpy_1_are_read(tmp_path):
    """The best score in the ``meta`` of a file of mmcv 1.x, written when numpy had another core."""
    content = dict(meta=dict(hook_msgs=dict(best_score=np.float64(0.5)), classes=np.arange(3)))
    torch.save(content, tmp_path / 'new.pth')
    with (
        zipfile.ZipFile(tmp_path / 'new.pth') as new,
        zipfile.ZipFile(tmp_path / 'old.pth', 'w') as old,
    ):
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b'numpy._core', b'numpy.core'))
    for name in ('new.pth', 'old.pth'):
        meta = load_file(tmp_path / name)['meta']
        assert meta['hook_msgs']['best_score'] == 0.5
        assert meta['classes'].tolist() == [0, 1, 2]


def test_a_file_under_the_suffix_of_the_other_kind_is_named(tmp_path):
    torch.save(WEIGHTS, tmp_path / 'a.safetensors')
    with pytest.raises(ValueError, match=r'is a torch file.*name it \.pth'):
        load_file(tmp_path / 'a.safetensors')
    save_safetensors(WEIGHTS, tmp_path / 'b.pth')
    with pytest.raises(ValueError, match=r'is a safetensors file; name it \.safetensors'):
        load_file(tmp_path / 'b.pth')


def test_a_safetensors_file_may_begin_as_a_pickle_does(tmp_path):
    for size in range(1, 200):  # the length of the header comes first
        path = tmp_path / 'a.safetensors'
        save_safetensors({'a' * size: torch.zeros(1)}, path)
        if path.read_bytes()[:1] == b'\x80':
            break
    assert path.read_bytes()[:1] == b'\x80'
    assert list(load_file(path)) == ['a' * size]
