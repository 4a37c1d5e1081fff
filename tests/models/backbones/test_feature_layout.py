"""Layouts are recognised by geometry, or refused."""

import pytest
import torch

from a2mim.models.timm_inspection import fitting_blocks, read_layout


def read(shape, image_size, channels_last=False, num_prefix_tokens=0):
    return read_layout(
        shape, image_size, channels_last=channels_last, num_prefix_tokens=num_prefix_tokens
    )


@pytest.mark.parametrize(
    'shape, image_size, options, channels, grid',
    [
        ((1, 256, 14, 14), (224, 224), {}, 256, (14, 14)),
        ((1, 14, 14, 256), (224, 224), {}, 256, (14, 14)),
        ((1, 96, 56, 56), (224, 224), dict(channels_last=True), 96, (56, 56)),
        ((1, 14, 14, 14), (224, 224), dict(channels_last=True), 14, (14, 14)),
        ((1, 8, 4, 6), (64, 96), {}, 8, (4, 6)),
        ((1, 8, 13, 19), (200, 300), {}, 8, (13, 19)),  # rounded up, 200 / 16 = 12.5
        ((1, 196, 48), (224, 224), {}, 48, (14, 14)),
        ((1, 197, 48), (224, 224), dict(num_prefix_tokens=1), 48, (14, 14)),
        ((1, 196, 48), (224, 224), dict(num_prefix_tokens=1), 48, (14, 14)),  # joins later
        ((1, 97, 48), (128, 192), dict(num_prefix_tokens=1), 48, (8, 12)),
    ],
)
def test_layouts_are_read(shape, image_size, options, channels, grid):
    layout = read(shape, image_size, **options)
    assert (layout.channels, layout.grid) == (channels, grid)
    assert layout.to_map(torch.zeros(shape), image_size).shape == (1, channels, *grid)


@pytest.mark.parametrize(
    'shape, num_prefix_tokens, words',
    [
        ((1, 150, 48), 0, 'neither a map nor a token grid'),
        ((1, 512), 0, 'neither a map nor a token grid'),
        ((1, 64, 14, 13), 0, 'neither a map nor a token grid'),
        ((196, 16, 24), 0, 'neither a map nor a token grid'),  # windows of one image
        ((1, 9, 48), 5, 'fit several layouts'),  # 3×3, or five extra tokens and 2×2
    ],
)
def test_what_cannot_be_read_is_refused(shape, num_prefix_tokens, words):
    with pytest.raises(ValueError, match=words):
        read(shape, (224, 224), num_prefix_tokens=num_prefix_tokens)


def test_tokens_follow_the_size_of_the_image_or_are_refused():
    layout = read((1, 197, 8), (224, 224), num_prefix_tokens=1)
    assert layout.grid_at(torch.zeros(2, 1 + 8 * 12, 8), (128, 192)) == (8, 12)
    with pytest.raises(ValueError, match='97 tokens, 1 of them extra, are not the 12×12'):
        layout.grid_at(torch.zeros(2, 97, 8), (192, 192))


def test_splitting_off_prefix_tokens_can_be_undone():
    layout = read((1, 17, 2), (64, 64), num_prefix_tokens=1)
    tokens = torch.randn(3, 17, 2)
    prefix, patches = layout.split(tokens)
    assert (prefix.shape[1], patches.shape[1]) == (1, 16)
    assert torch.equal(layout.join(prefix, patches), tokens)


def test_stride_is_pixels_per_position():
    assert read((1, 8, 7, 7), (224, 224)).stride == 32
    assert read((1, 8, 17, 17), (299, 299)).stride is None


def test_blocks_that_fit_tile_image_and_features():
    assert fitting_blocks((14, 14), (224, 224)) == [16, 32, 112, 224]
    assert fitting_blocks((4, 6), (64, 96)) == [16, 32]
    assert fitting_blocks((17, 17), (299, 299)) == [299]
