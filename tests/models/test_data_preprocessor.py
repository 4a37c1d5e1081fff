"""The preprocessor normalises on the device, agrees with the published numbers, and mixes."""

import pytest
import torch

from a2mim.models.data_preprocessor import ImagePreprocessor

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def test_normalises_grey_levels_channel_by_channel():
    levels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    image = ImagePreprocessor(MEAN, STD)(dict(image=levels))['image']
    expected = (levels / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, expected)


def test_denormalise_restores_every_grey_level():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    preprocessor = ImagePreprocessor(MEAN, STD)
    assert torch.equal(preprocessor.denormalise(preprocessor.normalise(levels)), levels)


def test_leaves_the_batch_of_the_loader_untouched():
    batch = dict(image=torch.zeros(1, 3, 4, 4, dtype=torch.uint8), mask=torch.ones(1, 2, 2))
    ImagePreprocessor(MEAN, STD)(batch)
    assert batch['image'].dtype == torch.uint8


def test_writes_the_layout_that_the_backbone_asked_for():
    preprocessor = ImagePreprocessor(MEAN, STD)
    preprocessor.memory_format = torch.channels_last
    image = preprocessor(dict(image=torch.zeros(2, 3, 4, 4, dtype=torch.uint8)))['image']
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_another_number_of_channels_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r'images have 1 channels.*have 3'):
        ImagePreprocessor(MEAN, STD)(dict(image=torch.zeros(1, 1, 4, 4, dtype=torch.uint8)))


@pytest.mark.parametrize('std', [[1.0, 1.0], [1.0, 0.0, 1.0]])
def test_statistics_that_do_not_fit_are_refused(std):
    with pytest.raises(ValueError, match='one entry per channel'):
        ImagePreprocessor(MEAN, std)


@pytest.mark.parametrize('size', [4, 5])
def test_mixup_keeps_the_batch_and_gives_probabilities_also_for_an_odd_batch(size):
    preprocessor = ImagePreprocessor(
        MEAN, STD, mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=7)
    )
    batch = dict(
        image=torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8), label=torch.arange(size)
    )
    mixed = preprocessor(batch, training=True)
    assert mixed['image'].shape == (size, 3, 8, 8)
    torch.testing.assert_close(mixed['label'].sum(dim=1), torch.ones(size))


def test_validation_is_not_mixed():
    preprocessor = ImagePreprocessor(MEAN, STD, mixup=dict(mixup_alpha=0.8, num_classes=7))
    label = torch.arange(4)
    batch = dict(image=torch.zeros(4, 3, 8, 8, dtype=torch.uint8), label=label)
    assert torch.equal(preprocessor(batch, training=False)['label'], label)
