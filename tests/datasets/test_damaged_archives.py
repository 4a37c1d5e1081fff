"""Damaged shards, databases and indices: a bad image by its name, or one line at the start."""

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from a2mim.datasets import EpochSampler, channels_last_collate
from a2mim.datasets.archives import ENTRIES, KEYS, SUMMARY, write_index
from a2mim.datasets.verification import check_images
from a2mim.errors import BadDataError
from a2mim.registry import DATASETS
from toy_run import load_tool

make_shards = load_tool('prepare_data/make_shards').main
verify_dataset = load_tool('prepare_data/verify_dataset').main
NUMBER, BAD = 24, 5


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> Path:
    """Shards and a database of noisy images, about 3 kB each."""
    root = tmp_path_factory.mktemp('made')
    rng = np.random.default_rng(0)
    for index in range(NUMBER):
        path = root / 'photos' / f'{index:02}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    for form in ('webdataset', 'lmdb'):
        make_shards([str(root / 'photos'), str(root / form), '--format', form])
    return root


@pytest.fixture
def shards(made, tmp_path) -> Path:
    return shutil.copytree(made / 'webdataset', tmp_path / 'shards')


@pytest.fixture
def database(made, tmp_path) -> Path:
    return shutil.copytree(made / 'lmdb', tmp_path / 'database')


def open_source(root: Path):
    return DATASETS.build(
        {'type': 'WebShards' if root.name == 'shards' else 'LmdbImages'} | {'root': str(root)}
    )


def overwrite(path: Path, start: int, data: bytes) -> None:
    with open(path, 'r+b') as file:
        file.seek(start)
        file.write(data)


def zero_header(shards: Path) -> None:
    offset = int(np.load(shards / ENTRIES)['offset'][BAD])
    overwrite(shards / '000000.tar', offset - 512, bytes(1500))


def garble_header(shards: Path) -> None:
    offset = int(np.load(shards / ENTRIES)['offset'][BAD])
    overwrite(shards / '000000.tar', offset - 512, bytes(range(256)) * 6)


def garble_pages(page: int, data: bytes) -> Callable[[Path], None]:
    """A function that overwrites a page of the database, the first leaf of which is page 2."""
    return lambda database: overwrite(database / 'data.mdb', page * 4096, data)


def add_key(key: str) -> Callable[[Path], None]:
    def add(database: Path) -> None:
        path = database / KEYS
        path.write_text(f'{key}\n' + path.read_text(), encoding='utf-8')

    return add


DAMAGES = {
    'tar header of zeros': ('shards', zero_header),
    'tar header of garbage': ('shards', garble_header),
    'value of zeros': ('database', garble_pages(9, bytes(4096))),
    'key beyond ASCII': ('database', add_key('caf\u00e9 \u732b.png')),
    'key that is too long': ('database', add_key('x' * 600 + '.png')),
    'key of 60 kB': ('database', add_key('x' * 60_000 + '.png')),
    'key with a comma': ('database', add_key('a,b.png')),
}


@pytest.mark.parametrize(('kind', 'damage'), DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize('workers', [0, 2])
def test_one_damaged_image_is_named_replaced_and_found(request, kind, damage, workers):
    root = request.getfixturevalue(kind)
    damage(root)
    source = open_source(root)
    (bad,) = [result for result in check_images(source, workers) if result.kind]
    name = source.name(bad.index)
    assert name.startswith(str(root)) and '::' in name
    with pytest.raises(BadDataError, match=rf'image {bad.index} of .*{root.name}.*repair the file'):
        source.load(bad.index)
    assert [result['unreadable'] for result in samples(root, workers)].count(bad.index) == 1


def samples(root: Path, workers: int) -> list[dict]:
    """Every image of an epoch, and what takes the place of the bad ones."""
    kind = 'WebShards' if root.name == 'shards' else 'LmdbImages'
    images = DATASETS.build(
        {
            'type': 'MaskedImageDataset',
            'source': {'type': kind, 'root': str(root)},
            'pipeline': [{'type': 'RandomResizedCrop', 'size': 8}],
            'mask': {'type': 'PatchMask', 'image_size': 8, 'block_size': 4},
            'on_bad_image': 'substitute',
        }
    )
    order, collate = EpochSampler(images, seed=0), channels_last_collate
    loader = DataLoader(images, 1, sampler=order, collate_fn=collate, num_workers=workers)
    return list(loader)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(('kind', 'file'), [('shards', '000000.tar'), ('database', 'data.mdb')])
def test_what_is_cut_off_during_a_run_is_a_bad_image(request, kind, file, workers):
    root = request.getfixturevalue(kind)
    source = open_source(root)
    os.truncate(root / file, os.path.getsize(root / file) // 2)
    results = list(check_images(source, workers))
    bad = [result for result in results if result.kind]
    assert len(bad) >= NUMBER // 3
    assert {result.kind for result in bad} == {'truncated'}
    assert all(source.name(index) for index in range(NUMBER))


@pytest.mark.parametrize(
    'data', [bytes(4096), b'\xff' * 4096, bytes(range(256)) * 16], ids=['zeros', 'ones', 'garbage']
)
def test_damaged_pages_of_keys_are_bad_images(database, data):
    pages = os.path.getsize(database / 'data.mdb') // 4096
    source = open_source(database)
    for page in range(2, pages):
        garble_pages(page, data)(database)
    results = list(check_images(source, 1))  # in a process that a page may kill
    assert all(result.kind for result in results)
    assert len(results) == NUMBER


def test_a_value_that_claims_gigabytes_is_a_bad_image(tmp_path):
    """The size of a value, in its node, is beyond the file."""
    with lmdb.open(str(tmp_path), map_size=2**20, lock=False) as new, new.begin(write=True) as t:
        t.put(b'a.png', b'x' * 99)
    (tmp_path / KEYS).write_text('a.png\n')
    data = (tmp_path / 'data.mdb').read_bytes()
    node = data.index(b'a.png') - 8  # lower and upper half of the size, flags, size of the key
    overwrite(tmp_path / 'data.mdb', node, b'\xff\xff\xff\x7f')
    with pytest.raises(BadDataError, match=r'image 0 of .*::a\.png.*CORRUPTED'):
        DATASETS.build({'type': 'LmdbImages', 'root': str(tmp_path)}).load(0)


@pytest.mark.parametrize('size', [0, 1, 4096, 8192, 10_000, 0.5, 0.99])
def test_a_database_that_is_cut_off_is_refused(database, size, capsys):
    whole = os.path.getsize(database / 'data.mdb')
    os.truncate(database / 'data.mdb', int(whole * size) if size < 1 else size)
    with pytest.raises(ValueError, match=r'database.*(no intact LMDB|is cut off).*copy it again'):
        open_source(database)
    with pytest.raises(ValueError, match='copy it again'):
        verify_dataset([str(database), '--workers', '0'])


@pytest.mark.parametrize('data', [b'no database' * 5000, bytes(50_000)])
def test_a_file_that_is_no_database_is_refused(database, data):
    (database / 'data.mdb').write_bytes(data)
    with pytest.raises(ValueError, match=r'no intact LMDB database: .*copy it again'):
        open_source(database)


@pytest.mark.parametrize('label', ['-1', '40000000', '9' * 30])
def test_a_key_with_a_label_that_is_no_class_is_refused(database, label):
    keys = (database / KEYS).read_text().split()
    lines = [f'{key} {label if index == 3 else 0}' for index, key in enumerate(keys)]
    (database / KEYS).write_text('\n'.join(lines))
    with pytest.raises(ValueError, match=rf"line 4 of .*keys\.txt.*'{label[:20]}'"):
        open_source(database)


def test_a_label_without_a_name_is_refused(database):
    keys = (database / KEYS).read_text().split()
    (database / KEYS).write_text('\n'.join(f'{key} {n}' for n, key in enumerate(keys)))
    (database / 'classes.txt').write_text('cat\ndog\n')
    with pytest.raises(ValueError, match=r'has the label 23, but .* has 2 classes'):
        open_source(database)


def changed(**values: object) -> Callable[[Path], None]:
    def change(shards: Path) -> None:
        summary = json.loads((shards / SUMMARY).read_text())
        (shards / SUMMARY).write_text(json.dumps({**summary, **values}))

    return change


def text(content: str | bytes, name: str = SUMMARY) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda shards: (shards / name).write_bytes(data)


def entry(**values: int) -> Callable[[Path], None]:
    """A function that changes one entry of the index."""

    def change(shards: Path) -> None:
        entries = np.load(shards / ENTRIES)
        for field, value in values.items():
            entries[field][7] = value
        np.save(shards / ENTRIES, entries)

    return change


def saved(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


INDICES = {
    'a shard above': changed(shards=['../shards/000000.tar']),
    'an absolute shard': changed(shards=['/etc/passwd']),
    'the folder': changed(shards=['..']),
    'no name': changed(shards=['']),
    'a number as name': changed(shards=[1]),
    'a text as list': changed(shards='0', bytes='0'),
    'more names than sizes': changed(shards=['000000.tar', 'x.tar']),
    'a text as size': changed(bytes=['1']),
    'a negative size': changed(bytes=[-1]),
    'null': changed(classes=None),
    'nothing': changed(shards=[], bytes=[]),
    'a list': text('[]'),
    'an empty object': text('{}'),
    'an empty file': text(''),
    'a deep list': text('[' * 100_000),
    'bytes': text(b'\xff\xfe'),
    'floats': text(saved(np.zeros(9)), ENTRIES),
    'a table': text(saved(np.zeros((3, 3), np.int64)), ENTRIES),
    'no entries': text(saved(np.zeros(0, np.int64)), ENTRIES),
    'half a header': text(saved(np.zeros(9))[:60], ENTRIES),
    'no array': text('index', ENTRIES),
    'an empty array file': text('', ENTRIES),
    'another shard': entry(shard=1),
    'an offset beyond the end': entry(offset=2**40),
    'a large offset': entry(offset=2**63),
    'an offset before the start': entry(offset=0),
    'a large size': entry(size=2**40),
    'the largest size': entry(size=2**64 - 1),
    'a negative label': entry(label=-7),
}


@pytest.mark.parametrize('damage', INDICES.values(), ids=INDICES)
def test_an_index_that_does_not_fit_its_shards_is_refused_in_one_line(shards, damage):
    damage(shards)
    with pytest.raises(ValueError, match=r'index\.(json|npy).*index the folder again') as refused:
        open_source(shards)
    assert '\n' not in str(refused.value)
    write_index(shards)
    assert len(open_source(shards)) == NUMBER


@pytest.mark.parametrize('damage', [zero_header, garble_header], ids=['zeros', 'garbage'])
def test_a_new_index_holds_the_images_behind_a_damaged_header(shards, damage, logged):
    whole = [source_bytes for i, source_bytes in enumerate(contents(shards)) if i != BAD]
    damage(shards)
    write_index(shards)
    assert contents(shards) == whole
    assert 'are of no whole member' in logged.text


# Bytes from the start of the last image's header.
@pytest.mark.parametrize('kept', [1, 300, 512, 600])
def test_a_new_index_of_a_shard_that_is_cut_off_says_so(shards, kept, logged):
    whole = contents(shards)
    path = shards / '000000.tar'
    os.truncate(path, int(np.load(shards / ENTRIES)['offset'][-1]) - 512 + kept)
    write_index(shards)
    assert contents(shards) == whole[:-1]
    assert re.search(rf'000000.tar: {kept} of \d+ bytes, .* cut off', logged.text)


@pytest.mark.parametrize('padding', [0, 512, 20 * 512])
def test_an_index_of_whole_shards_warns_of_nothing(shards, padding, logged):
    """Two archives behind each other are read to the end, as ``tar --ignore-zeros`` does."""
    whole = contents(shards)
    path = shards / '000000.tar'
    end = int(np.load(shards / ENTRIES)['offset'][-1]) - 512
    path.write_bytes(path.read_bytes()[:end] + bytes(padding) + path.read_bytes()[end:])
    write_index(shards)
    assert contents(shards) == whole
    assert 'no whole member' not in logged.text


def contents(shards: Path) -> list[bytes]:
    source = open_source(shards)
    return [source.content(index) for index in range(len(source))]


def test_a_shard_that_is_a_link_is_read(shards, tmp_path):
    (shards / '000000.tar').rename(tmp_path / 'elsewhere')
    (shards / '000000.tar').symlink_to(tmp_path / 'elsewhere')
    assert open_source(shards).load(0).shape == (3, 32, 32)
