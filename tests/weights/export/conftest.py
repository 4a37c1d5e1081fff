"""Trained models of every family in checkpoints, built once for all tests of exports."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from a2mim.weights.export.target import Source, read_source

PAPER_VIT = dict(use_abs_pos_emb=True, use_rel_pos_bias=True, init_values=0.1, depth=3)
# Name and options in timm; ViTs of full width, the paper's with a quarter of its blocks.
MODELS: dict[str, tuple[str, dict]] = {
    'resnet50': ('resnet50', {}),
    'resnet18': ('resnet18', {}),
    'convnext_tiny': ('convnext_tiny', {}),
    'convnext_atto': ('convnext_atto', {}),
    'paper_vit': ('beit_base_patch16_224', dict(PAPER_VIT, img_size=64)),
    'beit': ('beit_base_patch16_224', dict(depth=2, img_size=64, use_rel_pos_bias=True)),
    'vit_base': ('vit_base_patch16_224', {}),
    'small_vit': ('vit_tiny_patch16_224', dict(depth=2, img_size=64)),
    'swin': ('swin_tiny_patch4_window7_224', {}),
    'regnety': ('regnety_002', {}),
}


def disturb(model: nn.Module) -> nn.Module:
    """Give every vector its own values, as training does: an exchange of two then shows."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data += 0.05 * torch.randn_like(parameter)
        elif any(part in name for part in ('bias_table', 'cls_token', 'pos_embed')):
            parameter.data = 0.1 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(std=0.05)
    return model


@pytest.fixture(scope='session')
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Path of a flat checkpoint of a key of MODELS, with so many classes."""
    folder = tmp_path_factory.mktemp('checkpoints')

    @cache
    def write(key: str, num_classes: int = 0) -> Path:
        torch.manual_seed(0)
        name, options = MODELS[key]
        pool = {} if num_classes else {'global_pool': ''}
        model = disturb(timm.create_model(name, num_classes=num_classes, **pool, **options))
        torch.save(model.state_dict(), folder / f'{key}_{num_classes}.pth')
        return folder / f'{key}_{num_classes}.pth'

    return write


@pytest.fixture(scope='session')
def source_of(checkpoint_of: Callable[..., Path]) -> Callable[..., Source]:
    """The source of a key of MODELS, with so many classes."""

    @cache
    def read(key: str, num_classes: int = 0) -> Source:
        name, options = MODELS[key]
        return read_source(checkpoint_of(key, num_classes), name, options)

    return read
