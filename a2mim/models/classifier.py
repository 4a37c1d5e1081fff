"""Fine-tuning and linear probing: the same trunk with timm's own classification head.

Axes: B batch, C channels, (H, W) pixels, K classes.
"""

from collections.abc import Sequence
from math import isqrt

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from a2mim.models.timm_backbone import build_backbone
from a2mim.registry import MODELS


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Classify images with a timm model, fully fine-tuned or as a linear probe.

    The head is timm's own, so that pooling and the place of the final norm are those of the
    family (ConvNeXt: pool, norm, linear; the paper's ViT: mean over patches, norm, linear), and
    the trained classifier loads in ``timm.create_model`` as it is.

    Args:
        backbone: Config of a ``TimmBackbone`` with ``num_classes`` set and no mask token.
        loss: Config of the loss, called with logits (B, K) and labels (B,) or (B, K).
        data_preprocessor: Config of the ``ImagePreprocessor``.
        head_init_std: Standard deviation of the normal that initialises the linear layer.
        frozen_trunk: Train the head only, on features computed without gradient and with the
            trunk in evaluation mode (linear probe).

    Shape:
        image: (B, C, H, W), normalised.
        label: (B,) class indices, or (B, K) class probabilities after mixup.

    Raises:
        ValueError: If the backbone has no classifier.
    """

    def __init__(
        self,
        backbone: dict,
        loss: dict,
        data_preprocessor: dict,
        *,
        head_init_std: float = 0.01,
        frozen_trunk: bool = False,
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor))
        self.backbone = build_backbone(backbone, self.data_preprocessor)
        self.classifier_loss = MODELS.build(loss)
        self.frozen_trunk = frozen_trunk
        head = self.backbone.model.get_classifier()
        if not isinstance(head, nn.Linear | nn.Conv2d):
            raise ValueError(
                f'num_classes={self.backbone.model.num_classes} gives {type(head).__name__} as '
                'the classifier; set backbone.num_classes to the number of classes (at least 1)'
            )
        nn.init.normal_(head.weight, std=head_init_std)
        nn.init.zeros_(head.bias)
        if frozen_trunk:
            self.requires_grad_(False)
            head.requires_grad_(True)

    def forward(
        self, image: Tensor, label: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Tensor]] | Tensor:
        """Dispatch as mmengine asks for: ``'loss'``, ``'predict'`` or ``'tensor'`` (pooled)."""
        if mode == 'loss':
            return dict(loss=self.classifier_loss(self.logits(image), label))
        if mode == 'predict':
            scores = self.logits(image).float().softmax(dim=1).cpu()  # (B, K)
            labels = [None] * len(scores) if label is None else label.cpu()
            return [
                dict(scores=score, label=target)
                for score, target in zip(scores, labels, strict=True)
            ]
        model = self.backbone.model
        return model.forward_head(model.forward_features(image), pre_logits=True)  # (B, C)

    def logits(self, image: Tensor) -> Tensor:
        """Class scores (B, K) before the softmax."""
        model = self.backbone.model
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_trunk):
            features = model.forward_features(image)
        return model.forward_head(features)

    def train(self, mode: bool = True) -> 'ImageClassifier':
        """Keep a frozen trunk in evaluation mode: its batch statistics must not move."""
        super().train(mode)
        if self.frozen_trunk:
            self.backbone.eval()
        return self

    def init_weights(self) -> None:
        """Load the trunk where the config asks for it; the head starts afresh."""
        self.backbone.init_weights()


# [stage_probe]
# Probing a trunk at every stage: one linear classifier each, on features that do not learn.
#
# Axes: B batch, C channels, (H, W) pixels or features, S stages, K classes.


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
