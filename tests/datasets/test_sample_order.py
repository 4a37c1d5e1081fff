"""Sources and samplers keep the order of earlier versions: runs resume within an epoch."""

import numpy as np
import pytest
from PIL import Image

from a2mim.datasets import (
    EpochSampler,
    ImageFolder,
    ImageList,
    RepeatedEpochSampler,
    SampleKey,
    ShardSampler,
)

# Printed by the first version with these samplers, with seed 7.
EPOCHS = {
    0: [4, 6, 10, 0, 1, 3, 8, 7, 2, 5, 9, 11],
    3: [4, 2, 5, 8, 7, 3, 11, 10, 0, 1, 9, 6],
}
SHARDS = [16, 18, 0, 17, 4, 1, 15, 3, 19, 2, 23, 6]
NAMES = ['B.png', 'a b/1.PNG', 'a,b/2.png', 'a/10.png', 'a/9.png', 'out/deep/x.png', '\u00e9.png']


@pytest.mark.parametrize('epoch', EPOCHS)
def test_the_order_of_an_epoch_is_kept(epoch):
    sampler = EpochSampler(range(12), seed=7)
    sampler.set_epoch(epoch)
    assert list(sampler) == [SampleKey(index, epoch) for index in EPOCHS[epoch]]


def test_the_order_of_repeated_images_is_kept():
    keys = [SampleKey(index, 0, repeat) for index in EPOCHS[0][:4] for repeat in range(3)]
    assert list(RepeatedEpochSampler(range(12), seed=7)) == keys


def test_the_order_of_shards_is_kept():
    class Shards:
        starts = (0, 5, 15, 27)

        def __len__(self) -> int:
            return 40

    keys = list(ShardSampler(Shards(), window=10, seed=7))
    assert [key.index for key in keys[:12]] == SHARDS


@pytest.fixture
def images(tmp_path):
    """Images below two folders, one of which is reached by a link, besides other files."""
    for name in NAMES:
        below = 'elsewhere' if name.startswith('out') else 'root'
        path = tmp_path / below / name.removeprefix('out/')
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    (tmp_path / 'root' / 'out').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'root' / 'a' / 'notes.txt').touch()
    return tmp_path / 'root'


def names(source) -> list[str]:
    return [source.name(index).removeprefix(f'{source.root}/') for index in range(len(source))]


def test_a_folder_is_in_the_order_of_its_paths(images):
    assert names(ImageFolder(str(images))) == NAMES


@pytest.mark.parametrize('labels', [None, [3, 0, 3, 1, 2, 0, 1]])
def test_a_list_is_in_its_own_order(images, labels):
    paths = [NAMES[index] for index in (5, 2, 0, 6, 1, 4, 3)]
    lines = paths if labels is None else [f'{p} {n}' for p, n in zip(paths, labels, strict=True)]
    (images / 'list.txt').write_text('\n'.join(lines), encoding='utf-8')
    source = ImageList(str(images / 'list.txt'), str(images))
    assert names(source) == paths
    found = [source.label(index) for index in range(7)]
    assert found == ([None] * 7 if labels is None else labels)
