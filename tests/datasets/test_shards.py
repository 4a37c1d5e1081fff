"""Tar shards and databases hold what the folder held that they were made of."""

import io
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader

from a2mim.datasets import EpochSampler, ImageFolder, archives, channels_last_collate
from a2mim.datasets.archives import write_index
from a2mim.datasets.transforms import resize
from a2mim.errors import BadDataError
from a2mim.registry import DATASETS
from toy_run import load_tool

make_shards = load_tool('prepare_data/make_shards').main
index_shards = load_tool('prepare_data/index_shards').main
TYPES = {'webdataset': 'WebShards', 'lmdb': 'LmdbImages'}
NUMBER = 23


@pytest.fixture
def folder(tmp_path) -> Path:
    """Class folders with JPEG, PNG and array files; image i is uniformly 10·i."""
    for index in range(NUMBER):
        suffix = ('.jpg', '.PNG', '.npy')[index % 3]
        path = tmp_path / 'photos' / ('a cat', 'dog')[index % 2] / f'{index:02}.x{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 9, 3), 10 * index, np.uint8)
        np.save(path, pixels) if suffix == '.npy' else Image.fromarray(pixels).save(path)
    return tmp_path / 'photos'


def make(form: str, folder: Path) -> dict:
    """Config of a source that was made of the folder."""
    out = str(folder.parent / form)
    options = ['--format', form, '--images-per-shard', '5', '--with-labels']
    make_shards([str(folder), out, *options])
    return {'type': TYPES[form], 'root': out}


@pytest.fixture(params=TYPES)
def made(request, folder) -> dict:
    """Configs of both kinds of sources, one after the other."""
    return make(request.param, folder)


def levels(source) -> list[int]:
    return [int(source.load(index)[0, 0, 0]) for index in range(len(source))]


def add(path: Path, **members: bytes) -> None:
    """A tar file of these members, a dot in place of a double underscore."""
    with tarfile.open(path, 'w') as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace('__', '.'))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new('L', (4, 4), level).save(file, 'PNG')
    return file.getvalue()


def test_every_image_is_there_once_with_its_label_in_random_order(made, folder):
    source = DATASETS.build(made)
    found = levels(source)
    assert sorted(found) == [10 * index for index in range(NUMBER)] != found
    assert [source.label(index) for index in range(NUMBER)] == [x // 10 % 2 for x in found]
    assert source.classes == ('a cat', 'dog')


def test_the_bytes_are_copied_as_they_are(made, folder):
    source, original = DATASETS.build(made), ImageFolder(str(folder))
    copied = {source.content(index) for index in range(NUMBER)}
    assert copied == {original.content(index) for index in range(NUMBER)}


def test_the_same_seed_gives_the_same_files(folder, tmp_path):
    for name, seed in (('one', 0), ('two', 0), ('three', 1)):
        make_shards([str(folder), str(tmp_path / name), '--seed', str(seed)])
    one, two, three = (
        (tmp_path / name / '000000.tar').read_bytes() for name in ('one', 'two', 'three')
    )
    assert one == two != three


# Height and width, and other properties, of JPEG files; what they become with a short side of 20.
SHRUNK = {
    'wide': ((40, 61), {}, (20, 30)),
    'high': ((300, 30), {'quality': 30}, (200, 20)),
    'grey': ((21, 21), {'mode': 'L'}, (20, 20)),
    'on its side': ((40, 60), {'turned': 6}, (30, 20)),
    'CMYK': ((80, 50), {'mode': 'CMYK'}, (32, 20)),
    'progressive': ((1000, 40), {'progressive': True}, (500, 20)),
    'small': ((20, 90), {'turned': 8}, None),
    'smaller': ((3, 4), {}, None),
}


@pytest.mark.parametrize('form', TYPES)
def test_long_jpegs_are_resized_and_all_others_copied(form, tmp_path):
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    contents = {}
    for number, (kind, (size, options, _)) in enumerate(SHRUNK.items()):
        exif = Image.Exif()
        if 'turned' in options:
            exif[0x0112] = options['turned']
        image = Image.fromarray(smooth).resize(size[::-1]).convert(options.get('mode', 'RGB'))
        path = tmp_path / 'photos' / f'c{number}' / f'{kind}.jpg'
        path.parent.mkdir(parents=True)
        kept = {key: options[key] for key in ('quality', 'progressive') if key in options}
        image.save(path, exif=exif, **kept)
        contents[number] = path.read_bytes()
    Image.fromarray(smooth).resize((90, 80)).save(tmp_path / 'photos' / 'c0' / 'other.png')
    options = ['--format', form, '--with-labels', '--short-side', '20']
    make_shards([str(tmp_path / 'photos'), str(tmp_path / 'new'), *options])
    made = DATASETS.build({'type': TYPES[form], 'root': str(tmp_path / 'new')})
    old = ImageFolder(str(tmp_path / 'photos'), with_labels=True)
    before = {old.label(index): old.load(index) for index in range(len(old))[::-1]}
    assert len(made) == len(SHRUNK) + 1
    for index in range(len(made)):
        image, label = made.load(index), made.label(index)
        if made.suffix(index) == '.png':
            assert image.shape == (3, 80, 90)
            continue
        size = list(SHRUNK.values())[label][2]
        if size is None:
            assert made.content(index) == contents[label]
            continue
        assert image.shape == (3, *size)
        expected = resize(before[label], size, 'bicubic').int()
        assert (image - expected).abs().float().mean() < 2.5
        assert len(made.content(index)) < 40_000


def test_a_damaged_jpeg_that_is_to_be_resized_is_named(folder, tmp_path):
    bad = folder / 'dog' / '21.x.jpg'
    bad.write_bytes(bad.read_bytes()[:-30])
    with pytest.raises(BadDataError, match=r'21\.x\.jpg.*repair the file or remove it'):
        make_shards([str(folder), str(tmp_path / 'new'), '--short-side', '20'])
    assert not (tmp_path / 'new').exists()
    with pytest.raises(ValueError, match='--short-side 0 must be at least 1'):
        make_shards([str(folder), str(tmp_path / 'new'), '--short-side', '0'])


@pytest.mark.parametrize('form', TYPES)
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_call_that_is_stopped_leaves_nothing(form, number, folder, tmp_path, monkeypatch):
    content = ImageFolder.content

    def stop(source: ImageFolder, index: int) -> bytes:
        if index == NUMBER - 1:
            os.kill(os.getpid(), number)
        return content(source, index)

    monkeypatch.setattr(ImageFolder, 'content', stop)
    with pytest.raises(SystemExit) as end:
        make(form, folder)
    assert end.value.code == 128 + number
    assert [*tmp_path.iterdir()] == [folder]


@pytest.mark.parametrize('form', TYPES)
def test_what_a_killed_call_left_is_replaced_and_a_folder_of_the_user_is_not(form, folder):
    partial = folder.parent / f'{form}.partial-shards'
    partial.mkdir()
    (partial / '000099.tar').write_bytes(b'cut')
    make(form, folder)
    assert not partial.exists()
    assert not (folder.parent / form / '000099.tar').exists()
    partial.mkdir()
    (partial / 'notes.txt').write_text('mine')
    shutil.rmtree(folder.parent / form)
    with pytest.raises(FileExistsError, match=r'notes\.txt'):
        make(form, folder)
    assert (partial / 'notes.txt').read_text() == 'mine'


def test_few_labels_are_drawn_of_each_class_by_the_seed(made):
    sources = [DATASETS.build({**made, 'labels_per_class': 2, 'seed': seed}) for seed in range(9)]
    for source in sources:
        assert sorted(source.label(index) for index in range(len(source))) == [0, 0, 1, 1]
    draws = {tuple(source.name(index) for index in range(len(source))) for source in sources}
    assert len(draws) > 1


def test_without_labels_there_are_none(folder, tmp_path):
    for form, kind in TYPES.items():
        out = str(tmp_path / form)
        make_shards([str(folder), out, '--format', form])
        source = DATASETS.build({'type': kind, 'root': out})
        assert source.label(0) is None
        assert source.classes == ()


def test_webdataset_reads_the_same_shards(folder):
    source = DATASETS.build(make('webdataset', folder))
    urls = [f'{source.root}/{name}' for name in source.shards]
    assert len(urls) == 5
    stream = webdataset.WebDataset(urls, shardshuffle=False)
    for index, sample in enumerate(stream):
        (image,) = (sample[key] for key in ('jpg', 'png', 'npy') if key in sample)
        assert image == source.content(index)
        assert int(sample['cls']) == source.label(index)
    assert index == NUMBER - 1


def dataset(made: dict):
    return DATASETS.build(
        {
            'type': 'MaskedImageDataset',
            'source': made,
            'pipeline': [{'type': 'RandomResizedCrop', 'size': 8}],
            'mask': {'type': 'PatchMask', 'image_size': 8, 'block_size': 4},
            'on_bad_image': 'substitute',
        }
    )


def batches(made: dict, **options: object) -> list[dict]:
    images = dataset(made)
    images[0]  # opened in the main process first
    loader = DataLoader(
        images,
        batch_size=4,
        sampler=EpochSampler(images, seed=0),
        collate_fn=channels_last_collate,
        **options,
    )
    return list(loader)


@pytest.mark.parametrize('context', ['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def test_samples_are_the_same_in_workers_of_either_kind(made, context):
    alone = batches(made)
    start = multiprocessing.get_context(context)
    workers = batches(made, num_workers=2, multiprocessing_context=start)
    for one, other in zip(alone, workers, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_bad_member_is_replaced_and_called_by_its_shard(folder, tmp_path):
    next(folder.glob('*/07.*')).write_bytes(b'no image')
    for form, kind in TYPES.items():
        out = str(tmp_path / form)
        make_shards([str(folder), out, '--format', form, '--images-per-shard', '5'])
        images = dataset({'type': kind, 'root': out})
        noted = [images[index]['unreadable'] for index in range(NUMBER)]
        (index,) = (number for number in noted if number >= 0)
        place = rf'{out}/00000{index // 5}\.tar' if form == 'webdataset' else out
        name = images.source.name(index)
        with pytest.raises(BadDataError, match=rf"'{place}::{index:09}\.\w+' as an image"):
            images.source.load(index)
        assert name.endswith(images.source.suffix(index))


def test_only_some_shards_are_open_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(archives, 'MAX_OPEN', 2)
    source = DATASETS.build(make('webdataset', folder))
    assert len(set(levels(source))) == NUMBER
    assert len(source._files) == 2
    assert levels(pickle.loads(pickle.dumps(source))) == levels(source)


def test_shards_from_elsewhere_are_read_once_indexed(tmp_path, capsys):
    add(tmp_path / 'b.tar', x__png=png(3), x__cls=b'1', x__json=b'{}')
    add(tmp_path / 'a.tar', u__cls=b'0', u__png=png(1), v__seg__png=png(2), v__cls=b'1')
    index_shards([str(tmp_path)])
    assert '3 images in 2 shards, 2 classes' in capsys.readouterr().out
    source = DATASETS.build({'type': 'WebShards', 'root': str(tmp_path)})
    assert levels(source) == [1, 2, 3]
    assert [source.label(index) for index in range(3)] == [0, 1, 1]
    assert source.classes == ('0', '1')
    assert source.name(1) == f'{tmp_path}/a.tar::v.seg.png'


@pytest.mark.parametrize(
    ('members', 'message'),
    [
        ({'u__cls': b'0'}, "sample '/u' of .* has 0 images"),
        ({'u__png': b'', 'u__jpg': b''}, "sample '/u' of .* has 2 images"),
        ({'u__png': b'', 'u__cls': b'0', 'v__png': b''}, '1 of 2 images in .* have a label'),
        ({'u__png': b'', 'u__cls': b'cat'}, "u.cls of .* has the label 'cat'"),
        ({}, 'has no image; remove it'),
    ],
)
def test_shards_that_are_no_images_are_refused(tmp_path, members, message):
    add(tmp_path / 'a.tar', **members)
    with pytest.raises(ValueError, match=message):
        write_index(tmp_path)


@pytest.mark.parametrize(
    ('suffix', 'content'),
    [('cls', text) for text in (b'-7', b'1.0', b'4_0', b'', b'40000000', b'9' * 5000, b'\xff')]
    + [('json', b'{"label": %d}' % label) for label in (-7, 40_000_000, 99_999_999_999)],
)
def test_labels_that_are_no_class_are_refused_by_name(tmp_path, suffix, content):
    add(tmp_path / 'a.tar', **{'u__png': png(1), f'u__{suffix}': content})
    with pytest.raises(ValueError, match=rf'u\.{suffix} of .*a\.tar has the label .* whole number'):
        write_index(tmp_path)


def read_indexed(folder: Path):
    write_index(folder)
    return DATASETS.build({'type': 'WebShards', 'root': str(folder)})


@pytest.mark.parametrize(
    'members',
    [
        dict(u__png=png(1), v__png=png(2), w__png=png(3), u__cls=b'2', v__cls=b'0', w__cls=b'1'),
        dict(u__png=png(1), u__json=b'{"label": 2}', v__json=b'{"label": 0}', v__png=png(2))
        | dict(w__png=png(3), w__json=b'{"cls": 1, "text": "a cat"}'),
        dict(u__png=png(1), u__txt=b'2\n', v__png=png(2), v__txt=b'0', w__png=png(3), w__txt=b'1'),
        {'u_1__0__png': png(1), 'u_1__0__cls': b'2', 'u_1__1__png': png(2), 'u_1__1__cls': b'0'}
        | {'u_1__2__png': png(3), 'u_1__2__cls': b'1'},
        {f'u__{n}__png': png(n + 1) for n in range(3)}
        | {f'u__{n}__cls': str((n + 2) % 3).encode() for n in range(3)},
    ],
    ids=['labels last', 'json', 'txt', 'dots', 'dots, labels last'],
)
def test_other_ways_to_write_shards_are_read(tmp_path, members):
    add(tmp_path / 'a.tar', **members)
    source = read_indexed(tmp_path)
    assert levels(source) == [1, 2, 3]
    assert [source.label(index) for index in range(3)] == [2, 0, 1]


def test_captions_are_no_labels(tmp_path):
    members = dict(u__png=png(1), u__txt=b'a cat', u__json=b'{"url": 1}', v__png=png(2))
    add(tmp_path / 'a.tar', **members, v__txt=b'1984')
    source = read_indexed(tmp_path)
    assert source.label(0) is None
    assert levels(source) == [1, 2]


@pytest.mark.parametrize('suffix', ['.tar.gz', '.tgz', '.tar.xz'])
def test_compressed_shards_beside_others_are_refused(tmp_path, suffix):
    add(tmp_path / 'a.tar', u__png=png(1))
    (tmp_path / f'a{suffix}').write_bytes(b'kept beside what was made of it')
    write_index(tmp_path)
    (tmp_path / f'b{suffix}').write_bytes(b'')
    with pytest.raises(ValueError, match=rf'1 compressed shards, such as b\{suffix}.*decompress'):
        write_index(tmp_path)


def test_a_compressed_shard_is_refused(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w:gz'):
        pass
    with pytest.raises(ValueError, match=r'a\.tar is not an intact tar file.*uncompressed'):
        write_index(tmp_path)


def test_a_folder_without_shards_or_index_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no tar file'):
        write_index(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'no index\.json; make it with .*index_shards'):
        DATASETS.build({'type': 'WebShards', 'root': str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=r'has no data\.mdb; .*make_shards'):
        DATASETS.build({'type': 'LmdbImages', 'root': str(tmp_path)})


def test_an_outdated_index_is_refused(tmp_path):
    add(tmp_path / 'a.tar', u__png=png(1))
    write_index(tmp_path)
    add(tmp_path / 'a.tar', **{f'u{n}__png': png(1) for n in range(99)})
    with pytest.raises(ValueError, match='when it was indexed; restore it, or index'):
        DATASETS.build({'type': 'WebShards', 'root': str(tmp_path)})


def test_a_database_may_have_several_labels_per_image(folder):
    made = make('lmdb', folder)
    path = Path(made['root'], 'keys.txt')
    keys = [line.split()[0] for line in path.read_text().splitlines()]
    path.write_text('\n'.join(f'{key},{"0,1" if n % 2 else "1"}' for n, key in enumerate(keys)))
    source = DATASETS.build(made)
    assert [source.label(index).tolist() for index in range(2)] == [[0, 1], [1, 1]]
    assert len(set(levels(source))) == NUMBER
    assert source.classes == ('a cat', 'dog')


def test_a_key_that_the_database_lacks_is_a_bad_image(folder):
    made = make('lmdb', folder)
    path = Path(made['root'], 'keys.txt')
    path.write_text('000000000.jpg 0\n' + path.read_text())
    with pytest.raises(BadDataError, match='the database has no such key'):
        levels(DATASETS.build(made))


@pytest.mark.parametrize('form', TYPES)
def test_nothing_is_overwritten_and_nothing_unfinished_is_left(folder, tmp_path, form):
    (tmp_path / 'there').mkdir()
    with pytest.raises(FileExistsError, match='is there already'):
        make_shards([str(folder), str(tmp_path / 'there'), '--format', form])
    (folder / 'dog' / 'gone.png').symlink_to('nowhere')
    with pytest.raises((BadDataError, FileNotFoundError), match=r'gone\.png'):
        make_shards([str(folder), str(tmp_path / 'new'), '--format', form])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['photos', 'there']


@pytest.mark.parametrize(('form', 'package'), [('webdataset', 'webdataset'), ('lmdb', 'lmdb')])
def test_a_missing_package_is_named_with_its_extra(folder, tmp_path, monkeypatch, form, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is missing: .*'a2mim\[shards\]'"):
        make_shards([str(folder), str(tmp_path / 'new'), '--format', form])


def test_a_database_needs_the_package(folder, monkeypatch):
    made = make('lmdb', folder)
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    with pytest.raises(ImportError, match=r"run pip install 'a2mim\[shards\]'"):
        DATASETS.build(made)
