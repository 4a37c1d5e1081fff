"""The methods of ``a2mim pretrain --method``, and all in which they differ; no torch is needed."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """A method of pre-training.

    Attributes:
        type: Of the algorithm.
        parts: Of its config, beside backbone and preprocessor.
        token: Options of the mask token; None: there is none in the backbone.
        token_rule: Options of the optimiser for that token.
        mask: How blocks are chosen, one of ``network.MASKS``.
        smallest: Least share of an image in a crop.
        on_gpu, on_cpu: The network by default.
    """

    type: str
    parts: dict[str, Any]
    token: dict[str, Any] | None = None
    token_rule: dict[str, dict] = field(default_factory=dict)
    mask: str = 'blocks'
    smallest: float = 0.67
    on_gpu: str = 'resnet50'
    on_cpu: str = 'resnet18'


TOKEN_RULE = {'mask_token': dict(weight_decay=0.0, lr_mult=0.1)}
METHODS = {
    'a2mim': Method(
        'A2MIM',
        dict(
            neck=dict(type='PixelShuffleDecoder'),
            head=dict(
                type='MIMHead',
                spatial=dict(type='FocalL1Loss', alpha=0.2, gamma=1.0),
                spectral=dict(type='FocalFrequencyLoss', loss_weight=0.5),
                visible_leak=1e-3,
                visible_fill='mixed',
            ),
        ),
        token=dict(mode='add', gamma_init=1e-6),
        token_rule=TOKEN_RULE,
    ),
    'simmim': Method(
        'SimMIM',
        dict(
            neck=dict(type='PixelShuffleDecoder'),
            head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
        ),
        token=dict(mode='replace'),
        token_rule=TOKEN_RULE,
    ),
    # Half of the published decoder, which is meant for a ViT-B: fine-tuning hardly depends on it.
    'mae': Method(
        'MAE',
        dict(neck=dict(type='MAEDecoder', width=256, depth=4, num_heads=8)),
        mask='patches',
        smallest=0.2,
        on_gpu='vit_small_patch16_224',
        on_cpu='vit_tiny_patch16_224',
    ),
    # A third of the published width, which is meant for ImageNet.
    'spark': Method(
        'SparK',
        dict(
            neck=dict(type='UNetDecoder', width=256),
            head=dict(type='MIMHead', spatial=dict(type='MSELoss')),
        ),
        mask='features',
    ),
    # An average over 250 steps: the published 5000 are 1 % of a run of 500,000.
    'features': Method(
        'FeatureMIM',
        dict(
            neck=dict(type='PixelShuffleDecoder'),
            head=dict(type='MIMHead', spatial=dict(type='HuberLoss', beta=2.0)),
            teacher='ema',
            decay=0.996,
        ),
        token=dict(mode='add', gamma_init=1e-6),
        token_rule=TOKEN_RULE,
        mask='outputs',
        smallest=0.2,
        on_gpu='vit_small_patch16_224',
        on_cpu='vit_tiny_patch16_224',
    ),
}
