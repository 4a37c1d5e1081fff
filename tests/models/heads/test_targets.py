"""HOG and LBP targets equal scikit-image's, MaskFeat's a loop in numpy; A2MIM trains on them."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray
from skimage.feature import hog, local_binary_pattern
from torch import Tensor

from a2mim.models import A2MIM, HOGTarget, LBPTarget, MaskFeatTarget
from a2mim.models.mim_head import MIMHead
from host_sync import no_host_sync

L1 = dict(type='L1Loss')
TARGETS = {'HOGTarget': (9, 8), 'MaskFeatTarget': (27, 8), 'LBPTarget': (1, 1)}


def images(kind: str, height: int, width: int, channels: int = 3, count: int = 2) -> np.ndarray:
    """uint8 images (B, H, W, C): noise, or flat and striped regions, where gradients are zero."""
    rng = np.random.default_rng(0)
    if kind == 'noise':
        return rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    ramp = 3 * np.arange(width) % 256
    flat = np.broadcast_to(ramp[None, None, :, None], (count, height, width, channels))
    flat = flat * np.linspace(0.5, 1, channels)
    flat[:, height // 3 : height // 2] = 77
    flat[:, :, : width // 3] = flat[:, :, width // 3 : width // 3 + 1]
    return flat.astype(np.uint8)


def normalized(pixels: np.ndarray) -> tuple[Tensor, dict]:
    """A batch as the preprocessor returns it, with the statistics."""
    rng = np.random.default_rng(1)
    mean = rng.uniform(90, 130, pixels.shape[-1]).tolist()
    std = rng.uniform(40, 70, pixels.shape[-1]).tolist()
    batch = torch.from_numpy(pixels).movedim(-1, 1).float()
    batch = (batch - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    return batch, dict(mean=mean, std=std)


@pytest.mark.parametrize('kind', ['noise', 'flat'])
@pytest.mark.parametrize(
    'height, width, channels, orientations, cell',
    [(48, 64, 3, 9, 8), (64, 32, 1, 9, 8), (96, 96, 3, 6, 16), (40, 44, 5, 9, 4)],
)
def test_hog_equals_scikit_image(kind, height, width, channels, orientations, cell):
    pixels = images(kind, height, width, channels)
    expected = [
        hog(
            image,
            orientations,
            (cell, cell),
            cells_per_block=(1, 1),
            channel_axis=-1,
            feature_vector=False,
        ).squeeze((2, 3))
        for image in pixels
    ]
    expected = torch.from_numpy(np.stack(expected)).movedim(-1, 1).float()
    batch, statistics = normalized(pixels)
    torch.testing.assert_close(
        HOGTarget(orientations, cell, **statistics)(batch), expected, atol=1e-6, rtol=1e-5
    )
    raw = torch.from_numpy(pixels).movedim(-1, 1)
    torch.testing.assert_close(HOGTarget(orientations, cell)(raw), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('points, radius', [(8, 8), (8, 1), (6, 2.5), (4, 3)])
@pytest.mark.parametrize('height, width', [(32, 48), (24, 24)])
def test_lbp_equals_scikit_image(points, radius, height, width):
    pixels = images('noise', height, width)
    with pytest.warns(UserWarning, match='floating-point'):
        codes = [local_binary_pattern(rgb2gray(i), points, radius, 'nri_uniform') for i in pixels]
    expected = np.stack([code / code.max() for code in codes])[:, None]
    batch, statistics = normalized(pixels)
    found = LBPTarget(points, radius, **statistics)(batch)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=1e-6, rtol=0)


def test_a_flat_region_has_the_code_of_all_larger():
    batch, statistics = normalized(np.full((1, 32, 32, 1), 113, dtype=np.uint8))
    inside = LBPTarget(**statistics)(batch)[..., 8:-8, 8:-8]
    # scikit-image rounds and gives such pixels two codes. The largest, 58, is that of corners.
    assert torch.equal(inside, torch.full((1, 1, 16, 16), 57 / 58))


def maskfeat(channel: np.ndarray, bins: int, cell: int) -> np.ndarray:
    """MaskFeat's histograms (h, w, bins) of one channel, pixel by pixel."""
    (height, width), window = channel.shape, 2 * cell
    padded = np.pad(channel.astype(float), 1, mode='reflect')
    sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    place = (np.arange(window) - (window - 1) / 2) / cell
    bell = np.exp(-(place**2) / 2)
    votes = np.zeros((height // cell, width // cell, bins))
    for i in range(height):
        for j in range(width):
            around = padded[i : i + 3, j : j + 3]
            x, y = (around * sobel).sum(), (around * sobel.T).sum()
            turn = math.floor(math.atan2(x, y) / math.pi * bins) % bins
            weight = bell[i % window] * bell[j % window]
            votes[i // cell, j // cell, turn] += weight * math.hypot(x, y)
    return votes / np.linalg.norm(votes, axis=-1, keepdims=True).clip(1e-12)


@pytest.mark.parametrize('height, width, bins, cell', [(32, 48, 9, 8), (24, 16, 5, 4)])
def test_maskfeat_equals_a_loop_over_pixels(height, width, bins, cell):
    pixels = images('noise', height, width, count=2)
    expected = [[maskfeat(image[..., c], bins, cell) for c in range(3)] for image in pixels]
    expected = torch.from_numpy(np.array(expected)).movedim(-1, 2).flatten(1, 2).float()
    batch, statistics = normalized(pixels)
    found = MaskFeatTarget(bins, cell, **statistics)(batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('kind', [HOGTarget, MaskFeatTarget])
def test_the_picture_of_hog_draws_lines_along_edges(kind):
    upright = torch.zeros(1, 3, 32, 32)
    upright[..., 16:] = 1.0
    for image, axis in ((upright, 2), (upright.mT, 3)):
        target = kind()
        picture = target.picture(target(image), image)[0, 0, 8:24, 8:24]
        along, across = (picture.diff(dim=dim).abs().sum() for dim in (axis - 2, 3 - axis))
        assert across > 2 * along
        assert picture.min() >= 0
        assert picture.max() <= 1


def model(target: dict, **options: object) -> A2MIM:
    return A2MIM(
        backbone=dict(type='TimmBackbone', model_name='resnet10t', mask_after='layer3'),
        neck=dict(type='PixelShuffleDecoder'),
        head=dict(
            type='MIMHead',
            spatial=L1,
            spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
            target=target,
        ),
        data_preprocessor=dict(type='ImagePreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
        **options,
    )


@pytest.mark.parametrize('target', TARGETS)
def test_a2mim_reconstructs_the_features_of_masked_blocks(target):
    channels, stride = TARGETS[target]
    built = model(dict(type=target)).eval()
    image, mask = torch.randn(2, 3, 64, 96), torch.tensor([[[1.0, 0, 1], [0, 1, 0]]] * 2)
    assert not [key for key in built.state_dict() if 'target' in key]
    assert built.target.mean.flatten().tolist() == [120.0] * 3
    features = built.target(image)
    assert features.shape == (2, channels, 64 // stride, 96 // stride)
    with no_host_sync():
        losses = built(image, mask, mode='loss')
        sum(losses.values()).backward()
    decoded = built.neck(built.backbone(built.hide(image, mask), mask))
    masked = mask.repeat_interleave(32 // stride, 1).repeat_interleave(32 // stride, 2)[:, None]
    expected = ((decoded - features).abs() * masked).sum() / (masked.sum() + 1e-5) / channels
    torch.testing.assert_close(losses['loss_spatial'], expected)

    pictures = built(image, mask, mode='predict')
    for name in ('reconstruction', 'target'):
        assert pictures[name].shape == image.shape
        assert pictures[name].amin() >= image.amin()
        assert pictures[name].amax() <= image.amax() + 1e-6


def test_what_does_not_fit_a_target_is_refused():
    with pytest.raises(ValueError, match=r'residual=True.*the target is LBPTarget'):
        model(dict(type='LBPTarget'), residual=True)
    with pytest.raises(ValueError, match=r'per 64 pixels.*covers 32'):
        model(dict(type='HOGTarget', cell_size=64))
    with pytest.raises(ValueError, match='points=17'):
        LBPTarget(points=17)
    with pytest.raises(ValueError, match='orientations=1'):
        HOGTarget(orientations=1)
    with pytest.raises(ValueError, match='windows of 16×16'):
        MaskFeatTarget()(torch.zeros(1, 3, 40, 48))
    head = MIMHead(spatial=L1, target=dict(type='HOGTarget'))
    pixels, mask = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 1)
    with pytest.raises(ValueError, match=r'\(1, 3, 32, 32\).*\(1, 9, 4, 4\).*one shape'):
        head.loss(pixels, pixels, mask)
