"""The losses without the full reconstruction equal those with it, in value and gradient."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from a2mim.masking import random_patch_mask
from a2mim.models import (
    A2MIM,
    FocalFrequencyLoss,
    ImagePreprocessor,
    MIMHead,
    PixelShuffleDecoder,
    masked_decoding,
)
from a2mim.models.data_preprocessor import count_masked
from a2mim.registry import MODELS
from loss_cases import assert_gradient, cases
from loss_cases import batch as pinned_batch

CRITERIA = (dict(type='L1Loss'), dict(type='FocalL1Loss'), dict(type='MSELoss'))
SPECTRAL = (None, dict(type='FocalFrequencyLoss', loss_weight=0.5, batch_norm_weight=False))
HEADS = [
    dict(spatial=spatial, spectral=spectral, visible_fill=fill, visible_leak=leak)
    for spatial, spectral, fill, leak in product(
        CRITERIA, SPECTRAL, ('target', 'mixed', 'prediction'), (0.0, 0.3, 1.0)
    )
]
# Blocks of the mask, positions, pixels of a side of a position, channels of the image.
GRIDS = [((4, 4), (4, 4), 8, 3), ((2, 3), (4, 6), 4, 1), ((3, 2), (3, 4), 2, 4)]


def batch(blocks, positions, side, channels) -> tuple[Tensor, Tensor, Tensor, int]:
    """Features, image and mask of three images, and the blocks masked in each."""
    features = torch.randn(3, 5, *positions, dtype=torch.float64)
    size = [n * side for n in positions]
    image = torch.randn(3, channels, *size, dtype=torch.float64)
    masks = [random_patch_mask(blocks, 0.6, np.random.default_rng(seed)) for seed in range(3)]
    mask = torch.stack([torch.from_numpy(m) for m in masks]).double()
    return features, image, mask, int(mask[0].sum())


def both(decoder: nn.Module, head: MIMHead, sample: tuple) -> list[tuple[dict, list[Tensor]]]:
    """Losses and gradients of features and decoder, in the full form and without it."""
    features, image, mask, num_masked = sample
    results = []
    for full in (True, False):
        inputs = features.clone().requires_grad_()
        if full:
            losses = head.loss(decoder(inputs), image, mask)
        else:
            losses = masked_decoding.losses(decoder, head, inputs, image, mask, num_masked)
        leaves = [inputs, *decoder.parameters()]
        results.append((losses, list(torch.autograd.grad(sum(losses.values()), leaves))))
    return results


@pytest.mark.parametrize('grid', GRIDS, ids=str)
def test_losses_and_gradients_are_those_of_the_full_form(grid):
    sample = batch(*grid)
    decoder = PixelShuffleDecoder(5, grid[2], grid[3]).double()
    nn.init.normal_(decoder.projection.bias)
    for options in HEADS:
        head = MIMHead(**options)
        assert masked_decoding.is_linear(decoder, head) and masked_decoding.tiles(*sample[::2])
        full, saved = both(decoder, head, sample)
        torch.testing.assert_close(saved, full, rtol=1e-12, atol=1e-14, msg=str(options))


@pytest.mark.parametrize('case', cases('heads.json'))
@pytest.mark.parametrize('side', [4, 2])
def test_the_published_losses_are_those_of_the_short_form_too(case, side):
    # Features that hold the pixels of the prediction, and a decoder that copies them.
    pred, target, mask = pinned_batch(case['inputs'])
    width = pred.shape[1] * side**2
    decoder, head = (
        PixelShuffleDecoder(width, side, pred.shape[1]).double(),
        MIMHead(**case['head']),
    )
    nn.init.dirac_(decoder.projection.weight)
    features = F.pixel_unshuffle(pred, side)
    assert masked_decoding.tiles(features, mask) and len({int(one.sum()) for one in mask}) == 1
    if not masked_decoding.is_linear(decoder, head):
        losses = head.loss(decoder(features), target, mask)
    else:
        count = int(mask[0].sum())
        losses = masked_decoding.losses(decoder, head, features, target, mask, count)
    sum(losses.values()).backward()
    assert sum(losses.values()).item() == pytest.approx(case['loss'], rel=1e-7)
    assert losses['loss_spatial'].item() == pytest.approx(case['loss_spatial'], rel=1e-7)
    assert_gradient(pred, case)


def test_most_published_heads_have_the_short_form():
    heads = [MIMHead(**case.values[0]['head']) for case in cases('heads.json')]
    short = [masked_decoding.is_linear(PixelShuffleDecoder(3, 1), head) for head in heads]
    assert len(short) == 28 and sum(short) == 19


def test_a_block_before_the_convolution_is_applied():
    sample = batch(*GRIDS[0])
    decoder = PixelShuffleDecoder(5, 8, block=dict(type='DepthwiseBlock')).double()
    full, saved = both(decoder, MIMHead(**HEADS[-1]), sample)
    torch.testing.assert_close(saved, full, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    'decoder, head',
    [
        (dict(kernel_size=3), {}),
        (dict(activation='sigmoid'), {}),
        ({}, dict(visible_weight=0.1)),
        ({}, dict(visible_fill='mean')),
        ({}, dict(spectral=dict(type='SpectrumLoss', criterion=dict(type='L1Loss')))),
        ({}, dict(spectral=dict(type='FocalFrequencyLoss', average_spectrum=False))),
        ({}, dict(target=dict(type='HOGTarget'))),
    ],
    ids=str,
)
def test_what_is_not_linear_keeps_the_full_form(decoder, head):
    decoder = PixelShuffleDecoder(5, 8, **decoder)
    assert not masked_decoding.is_linear(decoder, MIMHead(**dict(HEADS[0], **head)))


def test_blocks_smaller_than_a_position_keep_the_full_form():
    assert not masked_decoding.tiles(torch.ones(1, 5, 2, 2), torch.ones(1, 4, 4))


@pytest.fixture
def model() -> A2MIM:
    return MODELS.build(
        dict(
            type='A2MIM',
            backbone=dict(type='TimmBackbone', model_name='resnet10t', mask_after='layer3'),
            neck=dict(type='PixelShuffleDecoder'),
            head=dict(type='MIMHead', spatial=dict(type='L1Loss'), spectral=SPECTRAL[1]),
            data_preprocessor=dict(type='ImagePreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
        )
    )


def test_training_takes_the_short_form_and_pictures_the_full_one(model, monkeypatch):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mask = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8).expand(2, 2, 2)
    data = model.data_preprocessor(dict(image=images, mask=mask), training=True)
    expected = model.head.loss(
        model.decode(model.backbone(model.hide(data['image'], data['mask']), data['mask']), None),
        data['image'],
        data['mask'],
    )
    decoded = []
    model.neck.register_forward_hook(lambda *_: decoded.append(True))
    losses = model(**data, mode='loss')
    assert data['num_masked'] == 3 and not decoded
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    assert model(**data, mode='predict')['reconstruction'].shape == images.shape and decoded


def test_images_with_different_masks_and_evaluation_keep_the_full_form():
    preprocessor = ImagePreprocessor([0.0], [1.0])
    image = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    mask = torch.tensor([[[1, 0]], [[1, 1]]], dtype=torch.uint8)
    assert 'num_masked' not in preprocessor(dict(image=image, mask=mask), training=True)
    assert 'num_masked' not in preprocessor(dict(image=image, mask=mask[:1]), training=False)


def test_masks_on_a_device_are_not_counted():
    assert count_masked(torch.ones(2, 1, 2)) == 2
    assert count_masked(torch.ones(2, 1, 2, device='meta')) is None


def test_the_loss_of_reduced_precision_is_computed_in_float32():
    sample = batch(*GRIDS[0])
    features, image, mask = (x.float() for x in sample[:3])
    decoder, head = PixelShuffleDecoder(5, 8), MIMHead(dict(type='L1Loss'), SPECTRAL[1])
    with torch.autocast('cpu', torch.bfloat16):
        losses = masked_decoding.losses(decoder, head, features.bfloat16(), image, mask, sample[3])
    expected = head.loss(decoder(features), image, mask)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    torch.testing.assert_close(losses, expected, rtol=2e-2, atol=1e-3)


class RoundedProducts(TorchDispatchMode):
    """Round what enters matrix products and convolutions, as TF32 and bfloat16 do."""

    PRODUCTS = ('mm', 'bmm', 'addmm', 'baddbmm', 'convolution')

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.PRODUCTS:
            args = tree_map_only(Tensor, lambda x: x.bfloat16().to(x.dtype), args)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('fill', ['target', 'mixed', 'prediction'])
def test_rounded_products_round_the_reconstruction_and_not_the_target(fill):
    _, image, mask, num_masked = (
        x.float() if isinstance(x, Tensor) else x for x in batch(*GRIDS[0])
    )
    features = torch.zeros(3, 5, *GRIDS[0][1])  # decoded to zero, in any precision
    decoder = PixelShuffleDecoder(5, 8)
    head = MIMHead(dict(type='L1Loss'), SPECTRAL[1], visible_fill=fill)
    exact = masked_decoding.losses(decoder, head, features, image, mask, num_masked)
    with RoundedProducts():
        rounded = masked_decoding.losses(decoder, head, features, image, mask, num_masked)
    assert rounded == exact and all(loss > 0 for loss in exact.values())


def test_the_frequency_loss_of_a_difference_is_that_of_its_images():
    pred, target = torch.randn(2, 4, 3, 8, 8)
    loss = FocalFrequencyLoss()
    torch.testing.assert_close(
        loss.of_difference((pred - target).mean(0)[None]), loss(pred, target)
    )
