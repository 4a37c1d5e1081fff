"""The methods of ``a2mim pretrain --method``, and all in which they differ; no torch is needed."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """A method of pre-training.

    Attributes:
        type: Of the algorithm.
        parts: Of its config, beside backbone and preprocessor.
        token: Options of the mask token; None: there is none in the backbone.
        mask: How blocks are chosen, one of ``network.MASKS``.
        smallest: Least share of an image in a crop.
        on_gpu, on_cpu: The network by default.
    """

    type: str
    parts: dict[str, Any]
    token: dict[str, Any] | None = None
    mask: str = 'blocks'
    smallest: float = 0.67
    on_gpu: str = 'resnet50'
    on_cpu: str = 'resnet18'

    def model(
        self, preprocessor: dict, backbone: dict, mask_after: str | None, teacher: dict | None
    ) -> dict[str, Any]:
        """Config of the algorithm.

        Args:
            preprocessor: Its config.
            backbone: Its config, but for the mask.
            mask_after: The layer of the mask token.
            teacher: Its config; None: that of the method, if it has one.
        """
        parts = self.parts
        if self.token is not None:
            backbone = {**backbone, 'mask_after': mask_after, 'mask_token': self.token}
        if teacher is not None:  # a frozen one has no decay
            parts = {**{k: v for k, v in parts.items() if k != 'decay'}, 'teacher': teacher}
        return dict(type=self.type, data_preprocessor=preprocessor, backbone=backbone, **parts)


TOKEN_RULE = {'mask_token': dict(weight_decay=0.0, lr_mult=0.1)}  # of the optimiser
VIT: dict[str, Any] = dict(
    on_gpu='vit_small_patch16_224', on_cpu='vit_tiny_patch16_224', smallest=0.2
)
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
    ),
    'simmim': Method(
        'SimMIM',
        dict(
            neck=dict(type='PixelShuffleDecoder'),
            head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
        ),
        token=dict(mode='replace'),
    ),
    # Half of the published decoder, which is meant for a ViT-B: fine-tuning hardly depends on it.
    'mae': Method(
        'MAE',
        dict(neck=dict(type='MAEDecoder', width=256, depth=4, num_heads=8)),
        mask='patches',
        **VIT,
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
        mask='outputs',
        **VIT,
    ),
}
