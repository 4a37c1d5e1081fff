"""SparK: the loss is that of the paper, every part learns, and a run of it works as any other."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine import Config
from mmengine.registry import DefaultScope
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import a2mim
from a2mim.engine.config_check import check_mask
from a2mim.models import SparK, UNetDecoder
from a2mim.models.sparse_encoder import SparseBackbone
from a2mim.registry import TRANSFORMS
from exact_run import SaveAt, differing, run, state
from host_sync import no_host_sync
from recipes import CONFIGS, built, groups_of
from toy_run import load_tool, loader, toy_config, write_images

PREPROCESSOR = dict(type='ImagePreprocessor', mean=[128.0] * 3, std=[64.0] * 3)
HEAD = dict(type='MIMHead', spatial=dict(type='MSELoss'))
NECK = dict(type='UNetDecoder', width=64)
PUBLISHED = sorted((CONFIGS / 'spark').glob('*imagenet*.py'))
SMALL = dict(output_stride=8, channels=(8, 16, 24, 32))


def build(name: str = 'test_resnet', neck: dict = NECK, **backbone: object) -> SparK:
    torch.manual_seed(0)
    options = dict(type='TimmBackbone', model_name=name, **backbone)
    return SparK(options, neck, HEAD, PREPROCESSOR)


def batch(size: tuple[int, int] = (64, 96), block: int = 32) -> tuple[Tensor, Tensor]:
    """Two images; of the first one block is visible, of the second all but one."""
    torch.manual_seed(1)
    mask = torch.ones(2, size[0] // block, size[1] // block)
    mask[0, -1, -1] = 0
    mask[1] = 0
    mask[1, 0, 0] = 1
    return 2 * torch.randn(2, 3, *size) + 1, mask


def published_loss(reconstruction: Tensor, image: Tensor, mask: Tensor, side: int) -> Tensor:
    """Squared error of each masked patch, which has zero mean and unit variance; in loops."""
    errors = []
    for one, target, hidden in zip(reconstruction, image, mask, strict=True):
        repeat = [
            target.shape[1] // side // mask.shape[1],
            target.shape[2] // side // mask.shape[2],
        ]
        for row, column in torch.kron(hidden, torch.ones(repeat)).nonzero().tolist():
            place = (
                slice(None),
                slice(row * side, (row + 1) * side),
                slice(column * side, (column + 1) * side),
            )
            patch = target[place]
            patch = (patch - patch.mean()) / (patch.var() + 1e-6) ** 0.5
            errors.append(((one[place] - patch) ** 2).mean())
    return torch.stack(errors).mean()


@pytest.mark.parametrize(
    'name, options, size, block',
    [
        ('test_resnet', dict(zero_init_last=False), (64, 96), 32),
        ('test_convnext', {}, (64, 128), 64),  # blocks of several patches
        ('resnet10t', SMALL | dict(zero_init_last=False), (32, 48), 8),
    ],
)
def test_the_loss_and_its_gradients_are_those_of_the_paper(name, options, size, block):
    model, (image, mask) = build(name, **options).double(), batch(size, block)
    image, mask = image.double(), mask.double()
    again = copy.deepcopy(model)
    losses = model(image, mask, mode='loss')
    assert losses.keys() == {'loss_spatial'}
    reconstruction = again.decode(image, mask)
    assert reconstruction.shape == image.shape
    expected = published_loss(reconstruction, image, mask.float(), again.backbone.stride)
    torch.testing.assert_close(losses['loss_spatial'], expected, rtol=1e-7, atol=0)
    losses['loss_spatial'].backward()
    expected.backward()
    gradients = [{n: p.grad for n, p in m.named_parameters()} for m in (model, again)]
    assert all(g is not None and g.any() for n, g in gradients[0].items() if 'norms' not in n)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-10)


def test_the_decoder_fills_every_stage_and_is_that_of_the_paper():
    stages = [(20, 8), (10, 4)]
    decoder = UNetDecoder(stages, width=32).double().eval()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    mask = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
    maps = [torch.randn(1, c, 16 // s, 32 // s, dtype=torch.float64) for c, s in stages]
    filled = [x.clone() for x in maps]
    for x, embedding in zip(filled, decoder.mask_embeddings, strict=True):
        x[..., x.shape[3] // 2 :] = embedding
    weights = dict(decoder.named_parameters())

    def conv(x: Tensor, name: str) -> Tensor:
        kernel = weights[f'{name}.weight']
        return F.conv2d(x, kernel, weights.get(f'{name}.bias'), padding=kernel.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:  # of the running statistics, 0 and 1
        scale, shift = (weights[f'{name}.{part}'].view(1, -1, 1, 1) for part in ('weight', 'bias'))
        return x / (1 + 1e-5) ** 0.5 * scale + shift

    x = conv(filled[0], 'projections.0')
    for level in range(3):
        if level == 1:
            x = x + conv(filled[1], 'projections.1')
        name = f'blocks.{level}'
        up = weights[f'{name}.0.weight'], weights[f'{name}.0.bias']
        x = F.conv_transpose2d(x, *up, stride=2, padding=1)
        x = norm(conv(x, f'{name}.1'), f'{name}.2').clamp(0, 6)
        x = norm(conv(x, f'{name}.4'), f'{name}.5')
    torch.testing.assert_close(decoder(maps, mask), conv(x, 'projection'))
    widths = [weights[f'blocks.{level}.0.weight'].shape[0] for level in range(3)]
    assert widths == [32, 16, 8] and weights['projection.weight'].shape == (3, 4, 1, 1)
    assert isinstance(UNetDecoder([(32, 8)], width=32).projections[0], nn.Identity)


def test_pictures_have_what_is_visible_and_the_true_mean_and_variance_of_patches():
    model, (image, mask) = build().eval(), batch()
    found = model(image, mask, mode='predict')
    assert found.keys() == {'image', 'visible', 'reconstruction', 'mask'}
    hidden = mask.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None].bool()
    assert torch.equal(found['visible'], image.masked_fill(hidden, 0))
    with torch.no_grad():
        plain = model.decode(image, mask)
    patch = image[1, :, 32:, :32]
    expected = plain[1, :, 32:, :32] * (patch.var() + 1e-6).sqrt() + patch.mean()
    torch.testing.assert_close(found['reconstruction'][1, :, 32:, :32], expected)
    other = torch.where(hidden, image.flip(1), image)  # the same mean and variance of each patch
    assert torch.allclose(model.predict(other, mask)['reconstruction'], found['reconstruction'])
    assert torch.equal(model(image), model.backbone(image))


@pytest.mark.parametrize('channels', [1, 5])
def test_a_step_never_waits_for_the_device_with_any_channels(channels):
    preprocessor = dict(type='ImagePreprocessor', mean=[128.0] * channels, std=[64.0] * channels)
    backbone = dict(type='TimmBackbone', model_name='test_efficientnet', in_chans=channels)
    model = SparK(backbone, NECK, HEAD, preprocessor)
    mask = torch.tensor([[[0.0, 1.0]]])
    with no_host_sync():
        model(torch.randn(1, channels, 32, 64), mask, mode='loss')['loss_spatial'].backward()


def test_a_network_of_ones_own_is_trained():
    layers = [nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)]
    model = SparK(nn.Sequential(*layers), dict(type='UNetDecoder', width=16), HEAD, PREPROCESSOR)
    assert model.backbone.stages == [(8, 8), (8, 4)]
    image, mask = batch((64, 64))
    model(image, mask, mode='loss')['loss_spatial'].backward()
    assert layers[0].weight.grad.any()


@pytest.mark.parametrize(
    'mask, message',
    [
        (dict(image_size=64, block_size=32, ratio=1.0), 'hides all 4 blocks.*smaller ratio'),
        (dict(image_size=64, block_size=64, ratio=0.6), 'hides all 1 blocks'),
        (dict(image_size=64, block_size=16, ratio=0.6), r'16×16 pixels.*block_size=32'),
        (dict(image_size=96, block_size=48, ratio=0.6), r'48×48 pixels.*block_size=32'),
        (dict(image_size=(64, 80), block_size=16, ratio=0.6), r'64×80.*stride 32.*64×64'),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    with torch.device('meta'):
        model = build()
    with pytest.raises(ValueError, match=message):
        check_mask(model, TRANSFORMS.build(dict(type='BlockMask', **mask)))
    check_mask(
        model,
        TRANSFORMS.build(
            {**mask, 'type': 'BlockMask', 'image_size': 192, 'ratio': 0.5} | dict(block_size=64)
        ),
    )


def test_other_parts_are_refused():
    with pytest.raises(ValueError, match=r'SparK is for convolutional.*a2mim.*mae'):
        build('test_vit')
    with pytest.raises(ValueError, match=r'width=48.*multiple of 32'):
        build(neck=dict(type='UNetDecoder', width=48))
    with pytest.raises(ValueError, match=r'width=640000 take .*memory: set a smaller width'):
        build(neck=dict(type='UNetDecoder', width=640000))
    with pytest.raises(TypeError, match='mask_after'):
        build(mask_after='layer3')
    with pytest.raises(ValueError, match='leave target=HOGTarget out'):
        head = HEAD | dict(target=dict(type='HOGTarget', mean=[128.0] * 3, std=[64.0] * 3))
        SparK(dict(model_name='test_resnet'), NECK, head, PREPROCESSOR)
    with pytest.raises(ValueError, match='needs a mask'):
        build()(batch()[0], mode='loss')


def config(data: Path, work_dir: Path, **changes: object) -> Config:
    """Two epochs of two steps on images of 32 pixels, with a picture."""
    train = loader(data, 4, shuffle=True)
    train['dataset'] = dict(
        type='MaskedImageDataset',
        source=dict(type='ImageFolder', root=str(data)),
        pipeline=[dict(type='RandomFlip')],
        mask=dict(type='BlockMask', image_size=32, block_size=8, ratio=0.6),
    )
    model = dict(
        _delete_=True,
        type='SparK',
        data_preprocessor=PREPROCESSOR,
        backbone=dict(type='TimmBackbone', model_name='resnet10t', drop_path_rate=0.2, **SMALL),
        neck=dict(type='UNetDecoder', width=32),
        head=HEAD,
    )
    cfg = toy_config(
        data,
        model=model,
        train_dataloader=train,
        val_dataloader=None,
        val_evaluator=None,
        val_cfg=None,
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        train_cfg__max_epochs=2,
        default_hooks__checkpoint__max_keep_ckpts=-1,
        custom_hooks=[dict(type='ReconstructionHook', interval=1)],
        **changes,
    )
    return cfg


@pytest.mark.integration
def test_a_run_resumes_bit_for_bit_draws_and_exports_to_timm(tmp_path):
    data = tmp_path / 'images'
    write_images(data, 3)
    runner, _ = run(config(data, tmp_path / 'whole'), SaveAt((4,)))
    start = str(tmp_path / 'whole/iter_4.pth')
    resumed, _ = run(config(data, tmp_path / 'rest', load_from=start, resume=True))
    assert runner.iter == resumed.iter == 6
    assert not differing(state(runner), state(resumed))
    drawn = np.asarray(Image.open(tmp_path / 'whole/reconstruction/epoch_2.png'))
    assert drawn.std() > 10

    checkpoint = tmp_path / 'whole/epoch_2.pth'
    model = a2mim.load_model(checkpoint)
    assert isinstance(model, SparK) and isinstance(model.backbone, SparseBackbone)
    assert model.input_spec.block_size == 8 and model.input_spec.image_size == (32, 32)
    pictures = a2mim.reconstruct(model, Image.open(data / 'red/0.png'))
    assert pictures['reconstruction'].shape == (32, 32, 3)
    with pytest.raises(ValueError, match='hides all 16 blocks'):
        a2mim.reconstruct(model, Image.open(data / 'red/0.png'), ratio=1.0)
    extract = load_tool('extract_backbone_weights', 'tools/model_converters')
    extract.main([str(checkpoint), str(tmp_path / 'backbone.pth')])
    weights = torch.load(tmp_path / 'backbone.pth', weights_only=True)
    weights = weights.get('state_dict', weights)
    timm.create_model('resnet10t', num_classes=0, **SMALL).load_state_dict(weights)


@pytest.mark.parametrize('path', PUBLISHED, ids=lambda path: path.stem)
def test_published_recipes_have_the_published_values(path):
    cfg = Config.fromfile(path)
    wrapper, schedule = cfg.optim_wrapper, cfg.param_scheduler
    # https://github.com/keyu-tian/SparK: pretrain/utils/arg_util.py, models/__init__.py
    beta, drop = {'resnet50': (0.95, 0.05), 'convnext_small': (0.999, 0.2)}.get(
        cfg.model.backbone.model_name, (0.999, 0.3)
    )
    assert cfg.model.backbone.drop_path_rate == drop and cfg.model.neck.width == 768
    optimizer = wrapper.optimizer
    assert (optimizer.type, optimizer.betas, optimizer.max_grad_norm) == ('Lamb', (0.9, beta), 5)
    assert optimizer.lr == pytest.approx(2e-4 * 4096 / 256) and optimizer.weight_decay == 0.04
    images = 8 * cfg.train_dataloader.batch_size * wrapper.get('accumulative_counts', 1)
    assert images == cfg.auto_scale_lr.base_batch_size == 4096
    assert cfg.train_cfg.max_epochs == 1600 and schedule.warmup == 40
    assert schedule.eta_min == pytest.approx(optimizer.lr / 1000) and schedule.warmup_ratio == 0.005
    assert cfg.custom_hooks == [dict(type='WeightDecayHook', end=0.2)]
    mask = TRANSFORMS.build(cfg.train_dataloader.dataset.mask)
    blocks = np.asarray(mask(np.random.default_rng(0)))
    assert (blocks == 0).sum() == round(49 * (1 - 0.6))
    with DefaultScope.overwrite_default_scope('a2mim'):
        model = built(cfg.model)
    # Of lr_control.py: what has one axis, biases, tokens and scales of layers do not decay.
    for group in groups_of(cfg, model):
        for name, parameter in group['params']:
            flat = parameter.ndim == 1 or 'mask_embeddings' in name or 'gamma' in name
            assert group['weight_decay'] == (0.0 if flat else 0.04), name
            assert group['lr'] == optimizer.lr
