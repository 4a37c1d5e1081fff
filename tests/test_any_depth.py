"""Folders of 12-bit, 12-band, float and CT-like images go the whole way through training."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from mmengine import Config
from PIL import Image

import a2mim
from a2mim.inference import as_batch
from a2mim.weights.recipe import embedded_values
from a2mim.weights.safe_load import load_file
from toy_run import ROOT, load_tool

pytestmark = pytest.mark.integration
SHAPE, CLASSES = (90, 100), ('a', 'b')
RNG = np.random.default_rng(0)
GAINS = np.linspace(0.3, 1, 12)


def views() -> list[np.ndarray]:
    """Grey crops of a photograph with sensor noise, (H, W), from 0 to 1."""
    with resources.files('skimage.data').joinpath('coffee.png').open('rb') as file:
        photo = np.asarray(Image.open(file).convert('L')) / 255
    corners = [(20 * n, 25 * n) for n in range(12)]
    crops = [photo[top : top + SHAPE[0], left : left + SHAPE[1]] for top, left in corners]
    return [(crop + RNG.normal(0, 0.01, SHAPE)).clip(0, 1) for crop in crops]


def deep(path: Path, view: np.ndarray) -> None:
    Image.fromarray((view * 4095).astype(np.uint16)).save(path.with_suffix('.png'))


def bands(path: Path, view: np.ndarray) -> None:
    cube = np.stack([view * gain * 4000 for gain in GAINS]).astype(np.uint16)
    tifffile.imwrite(path.with_suffix('.tif'), cube, photometric='minisblack')


def floats(path: Path, view: np.ndarray) -> None:
    view = view.astype(np.float32)
    view[5:8, 5:8] = np.nan
    tifffile.imwrite(path.with_suffix('.tif'), view)


def scan(path: Path, view: np.ndarray) -> None:
    tifffile.imwrite(path.with_suffix('.tif'), (view * 2000 - 1000).astype(np.int16))


# How to write a folder; channels; type; the scale to ask for; low and high that it means.
KINDS = {
    '12 bits': (deep, 1, 'uint16', 'percentile', (0, 4095)),
    '12 bands': (bands, 12, 'uint16', 'minmax', (0, 4000)),
    'floats': (floats, 1, 'float32', 'minmax', (0, 1)),
    'CT': (scan, 1, 'int16', [-1000, 1000], (-1000, 1000)),
}


def config(tmp_path: Path, base: str, channels: int, scale: object, **changes: object) -> str:
    """A config of ``configs/own_data`` with timm's smallest ResNet and a batch of four."""
    cfg = Config.fromfile(ROOT / f'configs/own_data/{base}.py')
    cfg.merge_from_dict(
        {
            'model.backbone.model_name': 'test_resnet',
            'model.backbone.in_chans': channels,
            'model.data_preprocessor.mean': [120.0] * channels,
            'model.data_preprocessor.std': [60.0] * channels,
            'model.data_preprocessor.scale': scale,
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.source.channels': channels,
            'auto_scale_lr.base_batch_size': 4,
            'param_scheduler.warmup': 0,
            'train_cfg.max_epochs': 2,
            **changes,
        }
    )
    path = tmp_path / f'{tmp_path.name}_{base[:4]}.py'
    cfg.dump(path)
    return str(path)


@pytest.mark.parametrize('kind', KINDS)
def test_it_trains_reconstructs_tunes_embeds_and_exports(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write, channels, dtype, scale, (low, high) = KINDS[kind]
    images = views()
    for number, view in enumerate(images):
        path = Path('data') / ('train' if number < 8 else 'val') / CLASSES[number % 2] / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, view)
    train = load_tool('train').main
    pretrain = config(
        tmp_path, 'a2mim_resnet18_1xb128-cos-auto_folder-64px', channels, scale,
        **{'model.backbone.output_stride': 32, 'train_dataloader.dataset.mask.block_size': 16},
    )  # fmt: skip
    words = [pretrain, '--data-root', 'data', '--work-dir', 'run']
    train([*words, '--cfg-options', 'train_cfg.max_epochs=1'])
    first = stored('run/epoch_1.pth')
    train([*words, '--resume', 'auto'])
    preprocessor = stored('run/epoch_2.pth').model.data_preprocessor
    assert preprocessor.scale == first.model.data_preprocessor.scale
    assert stored('run/epoch_2.pth').train_dataloader.dataset.source.dtype == dtype
    ends = np.array([np.broadcast_to(end, channels) for end in preprocessor.scale])
    assert np.abs(ends - [[low], [high]]).max() <= 0.8 * (high - low)
    if channels == 1:
        assert np.abs(ends.T - [low, high]).max() <= 0.2 * (high - low)

    model = a2mim.load_model('run/epoch_2.pth')
    file = next(Path('data/train/a').iterdir())
    levels = as_batch(model, file)
    assert kind != '12 bits' or len(levels.unique()) >= 250
    pictures = a2mim.reconstruct(model, file)
    shown = pictures['image'].reshape(64, 64, -1)[..., 0].astype(float)
    real = as_batch(model, file)[0, 0].numpy()
    assert shown.std() > 20
    assert np.corrcoef(shown.ravel(), real.ravel())[0, 1] > 0.99
    drawn = np.asarray(Image.open('run/reconstruction/epoch_2.png').convert('L'))
    assert drawn[20:110].std() > 20  # the row of images

    tune = config(
        tmp_path, 'finetune_resnet50_1xb64-cos-100e_class-folders-224px', channels,
        scale if isinstance(scale, list) else 'percentile',
        **{
            'model.backbone.num_classes': 2,
            'train_dataloader.dataset.pipeline': [dict(type='RandomResizedCrop', size=64)],
            'train_dataloader.dataset.erase': None,
            'val_dataloader.dataset.source.channels': channels,
            'val_dataloader.dataset.pipeline': [dict(type='Resize', size=(64, 64))],
            'val_dataloader.num_workers': 0,
            'val_dataloader.persistent_workers': False,
        },
    )  # fmt: skip
    words = [tune, '--data-root', 'data', '--work-dir', 'tuned']
    train([*words, '--pretrained', 'run/epoch_2.pth'])
    tuned = next(iter(sorted(Path('tuned').glob('epoch_*.pth'))))
    # The scale of the weights that it starts with, and no second one.
    assert stored(tuned).model.data_preprocessor.scale == preprocessor.scale
    load_tool('test').main([tune, str(tuned), '--data-root', 'data', '--out', 'metrics.json'])
    assert Path('metrics.json').is_file()
    embedded = a2mim.features(a2mim.load_model(tuned), file, pooled=True)
    assert embedded.isfinite().all()
    if channels == 1:
        exported = ['run/epoch_2.pth', 'trunk.pth', '--to', 'timm']
        load_tool('model_converters/export_backbone').main(exported)
        assert all(isinstance(value, torch.Tensor) for value in torch.load('trunk.pth').values())


def stored(path: str | Path) -> Config:
    """The config in a checkpoint."""
    return Config(embedded_values(load_file(Path(path))))
