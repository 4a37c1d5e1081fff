"""Training images on their way to the network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config

from a2mim.analysis.dataset_view import draw_view, label_text, view_dataset
from toy_run import load_tool, toy_config, write_images


@pytest.fixture
def classification(tmp_path: Path) -> Config:
    write_images(tmp_path / 'train', per_class=3)
    return toy_config(tmp_path)


@pytest.fixture
def pretraining(classification: Config) -> Config:
    dataset = classification.train_dataloader.dataset
    dataset.type = 'MaskedImageDataset'
    dataset.mask = dict(type='BlockMask', image_size=32, block_size=8, ratio=0.5)
    return classification


def test_hidden_blocks_have_the_mean_colour_and_others_are_as_augmented(
    pretraining: Config,
) -> None:
    view = view_dataset(pretraining, 4)
    same = (view.seen == view.augmented).all(dim=1)  # (N, H, W)
    blocks = same.reshape(4, 4, 8, 4, 8).all(dim=4).all(dim=2).flatten(1)
    assert blocks.sum(dim=1).tolist() == [8] * 4
    hidden = view.seen.permute(1, 0, 2, 3)[:, ~same].T.double()
    mean = view.augmented.double().mean(dim=(2, 3))
    expected = mean[:, :, None, None].expand_as(view.seen).permute(1, 0, 2, 3)[:, ~same].T
    assert (hidden - expected).abs().max() <= 0.51
    assert view.captions == ['50 % masked'] * 4


def test_an_image_is_flipped_or_as_stored(classification: Config) -> None:
    view = view_dataset(classification, 9)
    flipped = [
        torch.equal(image.flip(-1), original) and not torch.equal(image, original)
        for image, original in zip(view.augmented, view.originals, strict=True)
    ]
    kept = [torch.equal(*pair) for pair in zip(view.augmented, view.originals, strict=True)]
    assert sum(flipped) + sum(kept) == 9 and 0 < sum(flipped) < 9
    assert set(view.captions) == {'red', 'green', 'blue'}


def test_another_epoch_has_other_augmentations_of_the_same_images(classification: Config) -> None:
    first, again, later = (view_dataset(classification, 9, epoch=epoch) for epoch in (0, 0, 1))
    assert torch.equal(first.augmented, again.augmented)
    assert not torch.equal(first.augmented, later.augmented)
    assert all(map(torch.equal, first.originals, later.originals))


def test_mixed_images_are_the_sum_of_their_shares(classification: Config) -> None:
    mixup = dict(mixup_alpha=1.0, num_classes=3, label_smoothing=0.0)
    classification.model.data_preprocessor.mixup = mixup
    before = np.random.get_state()[1].copy()
    view = view_dataset(classification, 4)
    assert np.array_equal(before, np.random.get_state()[1])  # whoever draws next is undisturbed
    share = max(float(line.split()[0]) for text in view.captions for line in text.split('\n'))
    mixed = [
        part * view.augmented.double() + (1 - part) * view.augmented.flip(0).double()
        for part in (share, 1 - share)
    ]
    error = min(float((view.seen - one).abs().max()) for one in mixed)
    assert error < 2.5  # the share in the caption has two decimals


def test_a_mixed_label_names_the_classes_and_their_shares() -> None:
    assert label_text(torch.tensor([0.01, 0.3, 0.69]), ('a', 'b', 'c')) == '0.69 c\n0.30 b'
    assert label_text(torch.tensor(1), ('a', 'b')) == 'b'


def test_more_images_than_there_are_are_refused(classification: Config) -> None:
    with pytest.raises(ValueError, match='10 images were asked for; the data set has 1 to 9'):
        view_dataset(classification, 10)


def test_the_figure_has_three_rows(pretraining: Config) -> None:
    assert len(draw_view(view_dataset(pretraining, 2), 'title').axes) == 6


def test_the_tool_draws(pretraining: Config, capsys: pytest.CaptureFixture) -> None:
    root = Path(pretraining.train_dataloader.dataset.source.root).parent
    pretraining.dump(root / 'toy.py')
    tool, out = load_tool('visualizations/browse_dataset'), root / 'out'
    tool.main([str(root / 'toy.py'), '--num', '2', '--out', str(out)])
    assert {path.name for path in out.iterdir()} == {'dataset.png', 'dataset.pdf', 'result.json'}
    with pytest.raises(SystemExit, match='2'):
        tool.main([str(root / 'toy.py'), '--epoch', '-1', '--out', str(out)])
    assert '--epoch -1: give 0 or more' in capsys.readouterr().err
