import numpy as np
import pytest
import torch
from PIL import Image

from a2mim.engine.pictures import ReconstructionHook
from a2mim.models.data_preprocessor import ImagePreprocessor

TILE, ROW = 100, 116  # a picture of 96 pixels and its margin; the same and its caption


def picture(folder, epoch: int) -> np.ndarray:
    return np.asarray(Image.open(folder / f'reconstruction/epoch_{epoch}.png'))


def test_pictures_come_before_the_first_step_after_the_first_every_third_and_the_last_epoch(
    work_dir,
):
    names = {path.name for path in (work_dir / 'reconstruction').iterdir()}
    assert names == {'epoch_0.png', 'epoch_1.png', 'epoch_3.png', 'epoch_4.png'}


def test_the_visualizer_gets_the_picture_too(work_dir):
    assert list(work_dir.rglob('vis_image/reconstruction_3.png'))


def test_images_are_spread_over_the_data_set(work_dir):
    grey = picture(work_dir, 1)[16 + 50, 75::TILE, 0]
    assert grey.tolist() == [10, 20, 40, 60]


def test_rows_are_image_visible_part_reconstruction_and_both_joined(work_dir):
    last = picture(work_dir, 1)[16 + 50 :: ROW, 300:]
    hidden, visible = last[:, 25, 0].tolist(), last[:, 75, 0].tolist()
    assert hidden == [60, 60, 128, 128, 60]  # the last row: the mean of what is visible
    assert visible == [60, 60, 128, 60, 60]


def test_the_same_images_are_drawn_every_time(work_dir):
    assert np.array_equal(picture(work_dir, 1), picture(work_dir, 4))


def test_drawing_leaves_the_model_in_training_mode(trained):
    hook = next(hook for hook in trained.hooks if isinstance(hook, ReconstructionHook))
    trained.model.train()
    hook._rows(trained.model, hook._batch)
    assert trained.model.dropout.training


@pytest.mark.parametrize('channels', [1, 5])
def test_images_of_other_than_three_channels_are_drawn(train, tmp_path, channels):
    train(tmp_path / 'run', [dict(type='ReconstructionHook', interval=9)], channels)
    assert picture(tmp_path / 'run', 1)[66, 75].tolist() == [10, 10, 10]


@pytest.mark.parametrize('bands', [(4, 2, 0), (3,), None])
@pytest.mark.parametrize('scale', [1, 1e-3])
def test_what_is_not_8_bit_rgb_is_stretched_by_band(bands, scale):
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.data_preprocessor = ImagePreprocessor(mean=[100.0] * 5, std=[50.0] * 5)

        def val_step(self, batch: dict) -> dict:
            image = self.data_preprocessor.normalize(batch['image'])
            mask = torch.ones(1, 1, 1)
            return dict(image=image, visible=image, reconstruction=image / 2, mask=mask)

    ramp = torch.arange(100.0).expand(100, 100) * 2
    image = torch.stack([ramp * (1 + band) / 5 * scale for band in range(5)])[None]
    rows = ReconstructionHook(1, bands)._rows(Model(), dict(image=image))
    shown = rows['image'][0]
    assert shown.shape == (len(bands or (0, 1, 2)), 100, 100) and shown.dtype == np.uint8
    # From the 2nd percentile to the 98th, whatever the range of the band.
    assert (shown[:, :, 2] == 0).all() and (shown[:, :, 97] >= 254).all()
    assert np.abs(shown[:, 0, 50].astype(int) - 128).max() <= 2


def test_the_baseline_is_the_mean_of_what_is_visible(trained):
    hook = next(hook for hook in trained.hooks if isinstance(hook, ReconstructionHook))
    *_, baseline = hook._rows(trained.model, hook._batch).values()
    assert baseline[:, 0, 0, 0].tolist() == [10, 20, 40, 60]


@pytest.mark.parametrize('bands', [(0, 1), (-1,), ()])
def test_bands_that_make_no_picture_are_refused(bands):
    with pytest.raises(ValueError, match='three channels, or of one'):
        ReconstructionHook(1, bands)


def test_an_interval_of_no_epochs_is_refused():
    with pytest.raises(ValueError, match='interval=0 must be at least 1'):
        ReconstructionHook(interval=0)
