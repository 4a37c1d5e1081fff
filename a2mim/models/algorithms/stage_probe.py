"""Probing a trunk at every stage: one linear classifier each, on features that do not learn.

Axes: B batch, C channels, (H, W) pixels or features, S stages, K classes.
"""

from collections.abc import Sequence
from math import isqrt

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from a2mim.models.algorithms.parts import build_backbone
from a2mim.registry import MODELS


@MODELS.register_module()
class StageProbe(BaseModel):
    """Say from which stage of a frozen timm trunk the classes can be read, and how well.

    Every stage is averaged over a grid so coarse that about as many numbers are left as of any
    other (ResNet-50: 6×6×256, 4×4×512, 3×3×1024, 2×2×2048), normalised over the batch, and read by
    a linear layer of its own.

    Args:
        backbone: Config of a ``TimmBackbone`` without classes and without a mask token.
        loss: Config of the loss of every stage, called with logits (B, K) and labels (B,).
        data_preprocessor: Config of the ``ImagePreprocessor``.
        num_classes: K.
        stages: Indices into timm's ``feature_info``.
        numbers: Most numbers of a stage that its linear layer reads.

    Shape:
        image: (B, C, H, W), normalised.
        label: (B,), class indices.

    Raises:
        ValueError: If the family does not hand out its stages, has no such stage, or one with more
            channels than ``numbers``.

    Reference:
        Goyal et al., Scaling and Benchmarking Self-Supervised Visual Representation Learning,
        ICCV 2019 (https://arxiv.org/abs/1905.01235).
    """

    def __init__(
        self,
        backbone: dict,
        loss: dict,
        data_preprocessor: dict,
        *,
        num_classes: int,
        stages: Sequence[int],
        numbers: int = 9216,
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor))
        self.backbone = build_backbone(backbone, self.data_preprocessor).requires_grad_(False)
        self.stage_loss = MODELS.build(loss)
        self.stages = list(stages)
        channels = stage_channels(self.backbone.model, self.stages)
        if not self.stages or max(channels) > numbers:
            raise ValueError(
                f'stages={self.stages} have {channels} channels; give at least one stage, and '
                f'numbers={numbers} no smaller than its channels'
            )
        self.readers = nn.ModuleList(reader(width, numbers, num_classes) for width in channels)

    def forward(
        self, image: Tensor, label: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Tensor]] | Tensor:
        """Dispatch as mmengine asks for: ``'loss'``, ``'predict'`` or ``'tensor'`` (B, S, K)."""
        with torch.no_grad():
            features = self.backbone.model.forward_intermediates(
                image, indices=self.stages, intermediates_only=True
            )
        logits = [read(stage) for read, stage in zip(self.readers, features, strict=True)]
        if mode == 'loss':
            # The sum, which mmengine takes, trains every reader as if it were alone.
            return {
                f'loss_stage{stage}': self.stage_loss(scores, label)
                for stage, scores in zip(self.stages, logits, strict=True)
            }
        scores = torch.stack(logits, dim=1)
        if mode == 'tensor':
            return scores
        scores = scores.float().softmax(dim=2).cpu()
        labels = [None] * len(scores) if label is None else label.cpu()
        return [dict(scores=s, label=target) for s, target in zip(scores, labels, strict=True)]

    def train(self, mode: bool = True) -> 'StageProbe':
        """Keep the trunk in evaluation mode: its batch statistics must not move."""
        super().train(mode)
        self.backbone.eval()
        return self

    def init_weights(self) -> None:
        """Load the trunk where the config asks for it; the linear layers start afresh."""
        self.backbone.init_weights()


def stage_channels(model: nn.Module, stages: list[int]) -> list[int]:
    """Channels of some stages of a timm model."""
    info = getattr(model, 'feature_info', [])
    if not hasattr(model, 'forward_intermediates') or not all(0 <= s < len(info) for s in stages):
        raise ValueError(
            f'stages={stages} must be indices into the {len(info)} stages that '
            f'{type(model).__name__} hands out; tools/analysis_tools/list_stages.py prints them'
        )
    return [info[stage]['num_chs'] for stage in stages]


def reader(channels: int, numbers: int, num_classes: int) -> nn.Sequential:
    """Average over the finest grid that leaves ``numbers``, normalise, and read."""
    side = isqrt(numbers // channels)
    linear = nn.Linear(channels * side**2, num_classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(side), nn.BatchNorm2d(channels, affine=False), nn.Flatten(), linear
    )
