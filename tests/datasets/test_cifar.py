"""CIFAR through torchvision's reader, on a folder of four images."""

import hashlib
import pickle

import numpy as np
import pytest
from torchvision import datasets

from a2mim.registry import DATASETS

PIXELS = (np.arange(4 * 3072) % 251).reshape(4, 3072).astype(np.uint8)


def write(path, content: dict) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder in CIFAR's format, of which torchvision is told the check sums."""
    for reader, name, fine in (
        (datasets.CIFAR10, 'cifar-10-batches-py', 'labels'),
        (datasets.CIFAR100, 'cifar-100-python', 'fine_labels'),
    ):
        below = tmp_path / name
        train = write(below / 'train', {'data': PIXELS, fine: [1, 0, 1, 0]})
        test = write(below / 'test', {'data': PIXELS[:1], fine: [1]})
        meta = write(below / 'meta', {'names': ['cat', 'dog']})
        monkeypatch.setattr(reader, 'train_list', [['train', train]])
        monkeypatch.setattr(reader, 'test_list', [['test', test]])
        monkeypatch.setattr(reader, 'meta', {'filename': 'meta', 'key': 'names', 'md5': meta})
    return tmp_path


def cifar(root, **options: object):
    return DATASETS.build({'type': 'CIFAR', 'root': str(root), **options})


@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
def test_a_folder_that_is_there_is_read(root, name):
    source = cifar(root, name=name)
    assert len(source) == 4
    assert source.classes == ('cat', 'dog')
    assert [source.label(index) for index in range(4)] == [1, 0, 1, 0]
    np.testing.assert_array_equal(source.load(2).numpy(), PIXELS[2].reshape(3, 32, 32))


def test_the_test_images_are_apart(root):
    assert len(cifar(root, train=False)) == 1


def test_few_labels_of_cifar(root):
    sources = [cifar(root, labels_per_class=1, seed=seed) for seed in range(9)]
    assert all(sorted(source.labels) == [0, 1] for source in sources)
    assert len({source.images.tobytes() for source in sources}) > 1


def test_missing_data_name_the_folder_and_the_remedy(tmp_path):
    message = r"no intact CIFAR10 in '.*cifar-10-batches-py'.*download=True"
    with pytest.raises(FileNotFoundError, match=message):
        cifar(tmp_path)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name='cifar20' must be one of"):
        cifar('.', name='cifar20')
