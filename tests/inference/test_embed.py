"""Vectors of many images: those of ``features``, read in parallel, resumed, and written once."""

import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import a2mim
from a2mim.analysis import vectors
from a2mim.errors import BadDataError
from a2mim.weights.load_model import InputSpec
from small_models import build, classifier, pretraining, save_checkpoint
from toy_run import load_tool

SIZES = [(64, 64), (80, 64), (70, 90), (64, 200), (65, 64), (128, 64), (64, 66)]


def write_folder(folder):
    """Seven images of several sizes, modes and depths, and the names that they have."""
    rng = np.random.default_rng(0)
    names = [f'{"ab"[i % 2]}/{i}.png' for i in range(len(SIZES))]
    for i, (name, size) in enumerate(zip(names, SIZES, strict=True)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        channels = () if i == 2 else (3,)
        pixels = rng.integers(0, 65536 if i == 2 else 256, (*size, *channels))
        Image.fromarray(pixels.astype(np.uint16 if i == 2 else np.uint8)).save(folder / name)
    return sorted(names)


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / 'photos')
    return tmp_path / 'photos'


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = build(pretraining())
    network.input_spec = InputSpec((64, 64))
    return network


def expected(model, folder, names):
    return torch.cat([a2mim.features(model, folder / n, pooled=True) for n in names]).numpy()


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('batch_size', [3, 64])
def test_the_vectors_are_those_of_features_in_the_order_of_the_names(
    folder, model, workers, batch_size
):
    model.train()
    found = a2mim.embed(folder, model, workers=workers, batch_size=batch_size)
    assert model.training
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))
    assert found.names == names and found.unreadable == {}
    assert found.vectors.dtype == np.float32 and found.vectors.shape == (7, 64)
    want = expected(model.eval(), folder, names)
    np.testing.assert_allclose(found.vectors, want, rtol=1e-4, atol=1e-5)


def test_a_list_a_list_file_and_one_image_are_folders_too(folder, model):
    names = ['b/3.png', 'a/0.png', 'b/1.png']
    want = expected(model, folder, names)
    (folder / 'list.txt').write_text('\n'.join(names))
    paths = [folder / name for name in names]
    shown_paths = [*map(str, paths)]
    for images, shown in (
        (folder / 'list.txt', names),
        (paths, shown_paths),
        (iter(paths), shown_paths),
    ):
        found = a2mim.embed(images, model, workers=0)
        assert found.names == shown
        np.testing.assert_allclose(found.vectors, want, rtol=1e-4, atol=1e-5)
    assert a2mim.embed(str(paths[0]), model, workers=0).vectors.shape == (1, 64)


def test_a_classifier_pools_as_its_head_does(folder):
    model = build(classifier())
    model.input_spec = InputSpec((64, 64))
    found = a2mim.embed(folder, model, workers=0)
    want = a2mim.features(model, folder, pooled=True)
    np.testing.assert_allclose(found.vectors, want.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('workers', [0, 2])
def test_unreadable_images_are_listed_and_leave_no_vector(folder, model, workers, tmp_path):
    content = (folder / 'a/2.png').read_bytes()
    (folder / 'a/0.png').write_bytes(b'')  # a whole batch of them
    (folder / 'a/1.png').write_bytes(content[: len(content) // 2])
    (folder / 'b/3.png').write_bytes(b'text')
    out = tmp_path / 'new' / 'v.npz'
    found = a2mim.embed(folder, model, out, workers=workers, batch_size=2)
    assert [*found.unreadable] == ['a/0.png', 'a/1.png', 'b/3.png']
    assert 'empty' in found.unreadable['a/0.png']
    assert len(found.names) == len(found.vectors) == 5
    with np.load(out) as stored:
        assert stored['names'].tolist() == found.names
        assert stored['unreadable'].tolist() == [*found.unreadable]
        np.testing.assert_array_equal(stored['vectors'], found.vectors)
    for path in folder.rglob('*.png'):
        path.write_bytes(b'')
    with pytest.raises(BadDataError, match=r'none of the 8 images can be read, such as a/0.png'):
        a2mim.embed(folder, model, workers=workers)


class Counted:
    """Counts images that are computed, and stops before one too many."""

    def __init__(self, monkeypatch, most=100):
        self.images, self.most, self.measure = 0, most, vectors.measure
        monkeypatch.setattr(vectors, 'SECONDS', 0)
        monkeypatch.setattr(vectors, 'measure', self)

    def __call__(self, model, names, images, reasons):
        if self.images + len(names) > self.most:
            raise KeyboardInterrupt
        self.images += len(names)
        return self.measure(model, names, images, reasons)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('after', [0, 2, 6])
def test_what_was_finished_before_a_kill_is_not_computed_again(
    folder, model, tmp_path, monkeypatch, after, workers
):
    whole = a2mim.embed(folder, model, workers=0, batch_size=2)
    out = tmp_path / 'v.npz'
    counted = Counted(monkeypatch, after)
    with pytest.raises(KeyboardInterrupt):
        a2mim.embed(folder, model, out, workers=workers, batch_size=2)
    assert not out.exists() and counted.images == after
    counted.images, counted.most = 0, 100
    found = a2mim.embed(folder, model, out, workers=workers, batch_size=3)  # another size of batch
    assert counted.images == 7 - after
    assert found.names == whole.names
    np.testing.assert_allclose(found.vectors, whole.vectors, rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['photos', 'v.npz']


def change_weights(model, folder):
    with torch.no_grad():
        next(model.parameters()).add_(0.1)


def change_an_image(model, folder):
    pixels = np.zeros((64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / 'a/2.png')


def add_an_image(model, folder):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / 'z.png')


def touch_an_image(model, folder):
    os.utime(folder / 'b/5.png', ns=(1, 1))


CHANGES = [change_weights, change_an_image, add_an_image, touch_an_image]


@pytest.mark.parametrize('change', CHANGES)
def test_parts_of_other_weights_or_images_are_computed_again(
    folder, model, tmp_path, monkeypatch, change
):
    out, said = tmp_path / 'v.npz', []
    counted = Counted(monkeypatch, 4)
    monkeypatch.setattr(vectors, 'print_log', lambda text, _: said.append(text))
    with pytest.raises(KeyboardInterrupt):
        a2mim.embed(folder, model, out, workers=0, batch_size=2)
    change(model, folder)
    counted.images, counted.most = 0, 100
    found = a2mim.embed(folder, model, out, workers=0)
    assert counted.images == len(found.names)
    assert said == [f'{out}: images or weights have changed: all is computed again']


@pytest.mark.parametrize('change', CHANGES)
def test_a_complete_file_is_read_back_and_one_of_others_is_refused(
    folder, model, tmp_path, monkeypatch, change
):
    out = tmp_path / 'v.npz'
    found = a2mim.embed(folder, model, out, workers=0)
    with monkeypatch.context() as patch:
        Counted(patch, 0)
        again = a2mim.embed(folder, model, out, workers=0)
    np.testing.assert_array_equal(again.vectors, found.vectors)
    assert again[1:] == found[1:]
    before = out.read_bytes()
    change(model, folder)
    with pytest.raises(FileExistsError, match=r'v.npz is there, and not of these.*--force'):
        a2mim.embed(folder, model, out, workers=0)
    assert out.read_bytes() == before
    a2mim.embed(folder, model, out, workers=0, force=True)
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ('images', 'out', 'options', 'error', 'words'),
    [
        (None, 'v.csv', {}, ValueError, r'v.csv must end in .npz or .parquet'),
        (None, 'v.npz', dict(batch_size=0), ValueError, 'batch_size=0 must be at least 1'),
        (None, 'v.npz', dict(workers=-1), ValueError, 'workers=-1 0 or more'),
        ('none', 'v.npz', {}, FileNotFoundError, "'none' is not a folder"),
        ([], None, {}, FileNotFoundError, 'the list of images is empty'),
        ([np.zeros(3)], None, {}, TypeError, 'embed takes paths, not a ndarray; a2mim.features'),
        (['none.png'], None, {}, BadDataError, 'none of the 1 images can be read.*none.png'),
    ],
)
def test_mistakes_are_named(
    folder, model, tmp_path, monkeypatch, images, out, options, error, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        images = folder if images is None else images
        a2mim.embed(images, model, out, **{'workers': 0, **options})
    assert not (tmp_path / 'v.npz').exists()


def test_parquet_holds_the_same(folder, model, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet', reason='pyarrow is not installed')
    (folder / 'a/0.png').write_bytes(b'')
    found = a2mim.embed(folder, model, tmp_path / 'v.parquet', workers=0)
    table = parquet.read_table(tmp_path / 'v.parquet')
    assert table['name'].to_pylist() == found.names
    np.testing.assert_array_equal(np.stack(table['vector'].to_numpy()), found.vectors)
    again = a2mim.embed(folder, model, tmp_path / 'v.parquet', workers=0)
    np.testing.assert_array_equal(again.vectors, found.vectors)
    assert again[1:] == found[1:]


def test_parquet_without_pyarrow_is_refused_at_once(folder, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match=r'pip install pyarrow, or write .npz'):
        a2mim.embed(folder, model, tmp_path / 'v.parquet')


@pytest.mark.parametrize('words', ['{d} {m}', '--data {d} {m}', '{m} --data {d}', '{d} --ckpt {m}'])
def test_the_command_takes_folder_and_model_in_any_form(words, folder, tmp_path, capsys):
    save_checkpoint(pretraining(), tmp_path / 'm.pth')
    (folder / 'a/0.png').write_bytes(b'')
    words = words.format(d=folder, m=tmp_path / 'm.pth').split()
    out = tmp_path / 'v.npz'
    tool = load_tool('analysis_tools/embed')
    tool.main([*words, '--workers', '0', '--device', 'cpu', '--out', str(out)])
    *_, bad, last = capsys.readouterr().out.splitlines()
    assert bad.startswith('unreadable: a/0.png: image 0')
    assert last == f'{out}: 6 vectors of 64 values, 1 images unreadable'
    with np.load(out) as stored:
        assert stored['vectors'].shape == (6, 64)
    with pytest.raises(SystemExit) as end:
        tool.main([str(folder), '--workers', '0'])
    assert end.value.code == 2 and 'give DIR and MODEL once each' in capsys.readouterr().err
