"""The wrapper in the place of DDP: one training step, and what it refuses."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine import Config
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.registry import DefaultScope
from torch.distributed.tensor import DTensor

from a2mim.engine.mmengine_fixes import OptimWrapper
from a2mim.engine.optimizers import AmpOptimWrapper, Lamb
from a2mim.engine.sharding import FullyShard, check_sharding
from a2mim.models import FeatureMIM
from a2mim.registry import MODELS
from toy_run import toy_config

BATCH = dict(
    image=torch.arange(4 * 3 * 32 * 32).view(4, 3, 32, 32) % 251, label=torch.tensor([0, 1, 2, 0])
)


def classifier(**backbone: object) -> torch.nn.Module:
    torch.manual_seed(0)
    cfg = toy_config(Path('unused')).model
    cfg.backbone.update(model_name='test_vit', img_size=32, **backbone)
    with DefaultScope.overwrite_default_scope('a2mim'):
        return MODELS.build(cfg)


def wrapper_of(
    model: torch.nn.Module, kind: type = torch.optim.SGD, **options: object
) -> OptimWrapper:
    return OptimWrapper(optimizer=kind(model.parameters(), 0.1), **options)


def test_hooks_and_tools_take_it_for_a_wrapper(group):
    assert is_model_wrapper(FullyShard(classifier()))


@pytest.mark.parametrize('checkpointing', [False, True])
def test_two_steps_are_those_of_the_plain_model(group, checkpointing):
    plain = classifier(grad_checkpointing=checkpointing).train()
    sharded = FullyShard(classifier(grad_checkpointing=checkpointing)).train()
    options = dict(clip_grad=dict(max_norm=0.5), accumulative_counts=2)
    ours, theirs = wrapper_of(sharded, **options), wrapper_of(plain, **options)
    sharded.adopt(ours)
    for _ in range(4):
        losses = sharded.train_step(BATCH, ours)
        torch.testing.assert_close(losses['loss'], plain.train_step(BATCH, theirs)['loss'])
    assert type(ours.pending_grad_norm) is torch.Tensor
    torch.testing.assert_close(ours.pending_grad_norm, theirs.pending_grad_norm)
    shares = dict(sharded.module.named_parameters())
    for name, parameter in plain.named_parameters():
        assert isinstance(shares[name], DTensor)
        torch.testing.assert_close(shares[name].full_tensor(), parameter)


def test_lamb_moves_shares(group):
    plain, sharded = classifier().train(), FullyShard(classifier()).train()
    ours, theirs = wrapper_of(sharded, Lamb), wrapper_of(plain, Lamb)
    for _ in range(3):
        losses = sharded.train_step(BATCH, ours)
        torch.testing.assert_close(losses['loss'], plain.train_step(BATCH, theirs)['loss'])


def test_autocast_computes_in_bfloat16_and_keeps_weights_in_float32(group):
    plain, sharded = classifier().train(), FullyShard(classifier()).train()
    ours, theirs = (
        AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), 0.1), dtype='bfloat16')
        for model in (sharded, plain)
    )
    for _ in range(2):
        losses = sharded.train_step(BATCH, ours)
        torch.testing.assert_close(losses['loss'], plain.train_step(BATCH, theirs)['loss'])
    assert next(sharded.parameters()).dtype is torch.float32


def test_initial_weights_are_read_while_the_model_is_whole(group, tmp_path):
    trunk = classifier().backbone.model
    torch.nn.init.constant_(trunk.cls_token, 7.0)
    torch.save(trunk.state_dict(), tmp_path / 'trunk.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'trunk.pth'))
    sharded = FullyShard(classifier(init_cfg=init))
    token = sharded.module.backbone.model.cls_token.full_tensor()
    assert (token == 7).all()


def run(model: torch.nn.Module, hooks: list, **cfg: object) -> SimpleNamespace:
    options = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    options.merge_from_dict(cfg)
    return SimpleNamespace(model=model, hooks=hooks, cfg=options)


@pytest.mark.parametrize(
    'hooks, options, message',
    [
        ([EMAHook()], {}, 'EMAHook'),
        ([], dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype='float16')), 'bfloat16'),
        ([], dict(compile=True), 'with compile'),
    ],
)
def test_what_shares_cannot_do_is_refused_and_ddp_named(group, hooks, options, message):
    with pytest.raises(ValueError, match=rf'{message}.*leave model_wrapper_cfg out'):
        check_sharding(run(FullyShard(classifier()), hooks, **options))
    check_sharding(run(classifier(), hooks, **options))


def test_an_average_as_teacher_is_refused_and_a_frozen_one_passes(group):
    vit = dict(type='TimmBackbone', model_name='test_vit', img_size=32)
    parts = dict(
        neck=dict(type='PixelShuffleDecoder'),
        head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
        data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    )
    backbone = {**vit, 'mask_after': 'patch_embed'}
    with pytest.raises(ValueError, match=r"teacher='ema'.*leave model_wrapper_cfg out"):
        check_sharding(run(FullyShard(FeatureMIM(backbone, **parts)), []))
    check_sharding(run(FullyShard(FeatureMIM(backbone, **parts, teacher=vit)), []))


def test_what_shares_can_do_passes(group):
    amp = dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype='bfloat16'))
    check_sharding(run(FullyShard(classifier()), [], **amp))
