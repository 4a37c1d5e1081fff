import numpy as np
import pytest
from PIL import Image

from a2mim.engine.pictures import ReconstructionHook

TILE, ROW = 100, 116  # a picture of 96 pixels and its margin; the same and its caption


def picture(folder, epoch: int) -> np.ndarray:
    return np.asarray(Image.open(folder / f'reconstruction/epoch_{epoch}.png'))


def test_pictures_come_after_the_first_every_third_and_the_last_epoch(work_dir):
    names = {path.name for path in (work_dir / 'reconstruction').iterdir()}
    assert names == {'epoch_1.png', 'epoch_3.png', 'epoch_4.png'}


def test_the_visualizer_gets_the_picture_too(work_dir):
    assert list(work_dir.rglob('vis_image/reconstruction_3.png'))


def test_images_are_spread_over_the_data_set(work_dir):
    grey = picture(work_dir, 1)[16 + 50, 75::TILE, 0]
    assert grey.tolist() == [10, 20, 40, 60]


def test_rows_are_image_visible_part_reconstruction_and_both_joined(work_dir):
    last = picture(work_dir, 1)[16 + 50 :: ROW, 300:]
    hidden, visible = last[:, 25, 0].tolist(), last[:, 75, 0].tolist()
    assert hidden == [60, 60, 128, 128]
    assert visible == [60, 60, 128, 60]


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


def test_an_interval_of_no_epochs_is_refused():
    with pytest.raises(ValueError, match='interval=0 must be at least 1'):
        ReconstructionHook(interval=0)
