"""Reconstructions under several masks, against those of a single image and against formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config

from a2mim.analysis import AnalysisImages, Network, read_network
from a2mim.analysis.reconstructions import (
    MaskSetting,
    check_reconstructions,
    reconstruct_images,
    reconstruction_grid,
)
from a2mim.inference import reconstruct
from small_models import pretraining
from toy_run import load_tool, toy_config


def write_pretraining(folder: Path) -> Path:
    """A config of 64-pixel pre-training, whose blocks of 16 fit features of stride 16."""
    cfg = toy_config(folder)
    cfg.model = {**pretraining().model, 'data_preprocessor': cfg.model.data_preprocessor}
    mask = dict(type='BlockMask', image_size=64, block_size=32, ratio=0.5)
    cfg.train_dataloader.dataset = dict(
        type='MaskedImageDataset', source=dict(type='PhotoPatches', split='train'),
        pipeline=[dict(type='Resize', size=64)], mask=mask,
    )  # fmt: skip
    Config(cfg.to_dict()).dump(folder / 'pretraining.py')
    return folder / 'pretraining.py'


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretraining(tmp_path_factory.mktemp('toy'))


@pytest.fixture(scope='module')
def network(config: Path) -> Network:
    return read_network(f'toy=random:{config}')


def hidden_pixels(setting: MaskSetting) -> torch.Tensor:
    blocks = setting.mask((64, 64))[0].numpy()
    return torch.from_numpy(np.kron(blocks, np.ones((32, 32)))).bool()  # (H, W)


def test_a_batch_equals_single_images(network: Network) -> None:
    images, setting = AnalysisImages('photos', 3), MaskSetting(0.5, 32, 7)
    batched = reconstruct_images(network, images, setting, batch_size=2)
    for index, pixels in enumerate(images.pixels((64, 64))):
        single = reconstruct(network.whole, pixels, ratio=0.5, block_size=32, seed=7)
        for name, picture in (('reconstruction', batched.plain), ('visible', batched.visible)):
            found = picture[index].permute(1, 2, 0).int().numpy()
            assert np.abs(found - single[name].astype(int)).max() <= 1  # rounding


def test_pasted_pictures_keep_what_is_visible(network: Network) -> None:
    images, setting = AnalysisImages('photos', 2), MaskSetting(0.5, 32, 0)
    found = reconstruct_images(network, images, setting)
    hidden = hidden_pixels(setting)
    image = images.pixels((64, 64))
    assert torch.equal(found.pasted[..., ~hidden], image[..., ~hidden])
    assert torch.equal(found.pasted[..., hidden], found.plain[..., hidden])


def test_errors_are_means_over_hidden_values(network: Network) -> None:
    images, setting = AnalysisImages('photos', 2), MaskSetting(0.5, 32, 0)
    found = reconstruct_images(network, images, setting)
    hidden = hidden_pixels(setting)
    image = (images.pixels((64, 64)).double() - 127) / 64
    mean = image.mean(dim=(2, 3), keepdim=True)
    by_hand = (image - mean).abs()[..., hidden].mean(dim=(1, 2))
    torch.testing.assert_close(found.mean_colour_errors.double(), by_hand, rtol=1e-5, atol=1e-6)
    # Pictures are rounded and clipped to 256 levels of 1/64 standard deviation.
    levels = (found.plain.double() - 127) / 64
    inside = ((found.plain > 0) & (found.plain < 255)).all()
    error = (levels - image).abs()[..., hidden].mean(dim=(1, 2))
    assert inside and torch.allclose(found.errors.double(), error, atol=0.01)


def test_the_grid_has_a_row_for_each_image(network: Network) -> None:
    settings = [MaskSetting(ratio, 32, 0) for ratio in (0.25, 0.5)]
    figure, rows = reconstruction_grid([network], AnalysisImages('photos', 3), settings)
    assert len(figure.axes) == 3 * (1 + 2 * 2)
    assert [row['ratio'] for row in rows] == [0.25] * 3 + [0.5] * 3


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (MaskSetting(0.5, 24, 0), 'block_size=24 does not divide'),
        (MaskSetting(1.0, 32, 0), 'mask ratio 1 must lie between 0 and 1'),
        (MaskSetting(0.0, 32, 0), 'mask ratio 0 must lie between 0 and 1'),
        (MaskSetting(0.9, 32, 0), 'masks all 2×2 blocks'),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    network: Network, setting: MaskSetting, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_reconstructions([network], [setting])


def test_a_network_without_decoder_is_refused() -> None:
    with pytest.raises(TypeError, match='random test_vit has no decoder'):
        check_reconstructions([read_network('random:test_vit')], [])


def test_the_tool_compares_networks(config: Path, capsys: pytest.CaptureFixture) -> None:
    out = config.parent / 'out'
    networks = [f'a=random:{config}', f'b=random:{config}']
    args = [*networks, '--num-images', '2', '--seeds', '0', '1', '--out', str(out)]
    load_tool('visualizations/vis_reconstruction').main(args)
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        'seeds.png', 'seeds.pdf', 'seeds_plain.png', 'seeds_plain.pdf', 'errors.csv', 'result.json'
    }  # fmt: skip
    assert len((out / 'errors.csv').read_text().splitlines()) == 1 + 2 * 2 * 2
    assert '50 % of 32 px, seed 1: b L1' in capsys.readouterr().out
