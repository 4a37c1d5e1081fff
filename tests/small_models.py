"""Small models with their configs, and weight files in our format and in that of OpenMixup."""

from pathlib import Path

import torch
from mmengine import Config
from mmengine.registry import DefaultScope
from safetensors.torch import save_file as save_safetensors
from torch import Tensor, nn

from a2mim.registry import MODELS


def pretraining(channels: int = 3, method: str = 'A2MIM') -> Config:
    """A2MIM or SimMIM with timm's smallest ConvNeXt, 64 pixels in patches of 16."""
    mode = dict(A2MIM='add', SimMIM='replace')[method]
    model = dict(
        type=method,
        data_preprocessor=dict(
            type='ImagePreprocessor', mean=[120.0] * channels, std=[60.0] * channels
        ),
        backbone=dict(
            type='TimmBackbone',
            model_name='test_convnext',
            in_chans=channels,
            mask_after='stages.2',
            mask_token=dict(mode=mode),
        ),
        neck=dict(type='PixelShuffleDecoder', out_channels=channels),
        head=dict(
            type='MIMHead',
            spatial=dict(type='L1Loss'),
            spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
        ),
    )
    mask = dict(type='BlockMask', image_size=64, block_size=16, ratio=0.5)
    return Config(dict(model=model, train_dataloader=dict(dataset=dict(mask=mask))))


def classifier(num_classes: int = 5) -> Config:
    """A classifier with the same backbone, tested at 64 pixels."""
    preprocessor = dict(type='ImagePreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
    model = dict(
        type='ImageClassifier',
        data_preprocessor={**preprocessor, 'mixup': dict(num_classes=num_classes)},
        backbone=dict(type='TimmBackbone', model_name='test_convnext', num_classes=num_classes),
        loss=dict(type='CrossEntropyLoss'),
    )
    pipeline = [dict(type='Resize', size=70), dict(type='CenterCrop', size=64)]
    return Config(dict(model=model, val_dataloader=dict(dataset=dict(pipeline=pipeline))))


def build(config: Config) -> nn.Module:
    """The model of a config, in evaluation mode."""
    with DefaultScope.overwrite_default_scope('a2mim'):
        return MODELS.build(config.model).eval()


def save_checkpoint(config: Config, path: Path) -> nn.Module:
    """What a training run writes, without the optimiser; returns the model."""
    model = build(config)
    torch.save(dict(meta=dict(cfg=config.pretty_text), state_dict=model.state_dict()), path)
    return model


def save_published(config: Config, path: Path) -> nn.Module:
    """Weights alone with the config as metadata; returns the model."""
    model = build(config)
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_safetensors(state, path, metadata=dict(cfg=config.pretty_text))
    return model


def openmixup_names(model: nn.Module) -> dict[str, Tensor]:
    """The state of an A2MIM or classifier with a ResNet under the names of OpenMixup."""
    renamed = {}
    for key, tensor in model.state_dict().items():
        if key.startswith('backbone.mask_token.'):
            renamed['backbone.mask_' + key.split('.')[-1]] = tensor.view(1, -1, 1, 1)
        elif key.startswith('backbone.model.fc.'):
            renamed[key.replace('backbone.model.', 'head.')] = tensor
        else:
            key = key.replace('backbone.model.', 'backbone.')
            renamed[key.replace('neck.projection.', 'neck.decoder.0.')] = tensor
    return renamed
