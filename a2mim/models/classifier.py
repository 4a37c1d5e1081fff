"""Classification: fine-tuning, linear probing, and probing of every stage of a backbone.

Axes: B batch, C channels, (H, W) pixels or features, S stages, K classes.
"""

from collections.abc import Sequence
from math import isqrt

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.functional import pad

from a2mim.interfaces import TimmNetwork
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.losses import SOFTMAX_LOSSES, check_class_weights
from a2mim.models.timm_backbone import build_backbone
from a2mim.registry import MODELS


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Classify images with a timm model, fully fine-tuned or as a linear probe.

    The head is timm's own, so that pooling and the order of the final norm are those of the
    family (ConvNeXt: pool, norm, linear; the paper's ViT: mean over patches, norm, linear), and
    the trained classifier loads in ``timm.create_model``.

    Args:
        backbone: Config of a ``TimmBackbone`` with ``num_classes`` set and no mask token.
        loss: Config of the loss, called with logits (B, K) and labels (B,) or (B, K).
        data_preprocessor: Config of the ``ImagePreprocessor``.
        head_init_std: Standard deviation of the normal that initialises the linear layer.
        frozen_trunk: Linear probe: train the head only; the backbone runs without gradient and in
            evaluation mode.

    Shape:
        image: (B, C, H, W), normalised.
        label: (B,) class indices; (B, K) uint8, 1 for each class of an image, if images have
            several; or (B, K) class probabilities after mixup.

    Raises:
        ValueError: If the backbone has no classifier, the loss has weights for another number of
            classes, or images with several classes meet a loss for one.
    """

    data_preprocessor: ImagePreprocessor

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
        check_class_weights(self.classifier_loss, self.backbone.model.num_classes)
        nn.init.normal_(head.weight, std=head_init_std)
        if head.bias is not None:
            nn.init.zeros_(head.bias)
        if frozen_trunk:
            self.requires_grad_(False)
            head.requires_grad_(True)

    def forward(
        self, image: Tensor, label: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Tensor | None]] | Tensor:
        """Dispatch by mmengine's ``mode``; ``'tensor'`` returns pooled features."""
        if mode == 'loss':
            return dict(loss=self.classifier_loss(self.logits(image), self._target(label)))
        if mode == 'predict':
            return _predictions(self.logits(image), label)
        model = self.backbone.model
        return model.forward_head(model.forward_features(image), pre_logits=True)  # (B, C)

    def _target(self, label: Tensor | None) -> Tensor | None:
        """Labels as a loss takes them; a softmax is refused for images with several classes."""
        if label is None or not has_several(label):
            return label
        if isinstance(self.classifier_loss, SOFTMAX_LOSSES):
            name = type(self.classifier_loss).__name__
            raise ValueError(
                f'the images have several labels each, and loss={name} is for one; set '
                "model.loss=dict(type='BinaryCrossEntropy')"
            )
        return label.float()

    def logits(self, image: Tensor) -> Tensor:
        """Class scores (B, K) before the softmax."""
        model = self.backbone.model
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_trunk):
            features = model.forward_features(image)
        return model.forward_head(features)

    def train(self, mode: bool = True) -> 'ImageClassifier':
        """Keep a frozen backbone in evaluation mode: its batch statistics must not change."""
        super().train(mode)
        if self.frozen_trunk:
            self.backbone.eval()
        return self

    def init_weights(self) -> None:
        """Load the backbone where the config asks for it; the head starts afresh."""
        self.backbone.init_weights()


# Most features of a stage that its linear layer reads.
MAX_FEATURES = 9216


@MODELS.register_module()
class StageProbe(BaseModel):
    """Train a linear classifier on every stage of a frozen backbone.

    Every stage is averaged over a coarse grid, so that all have about equally many features
    (ResNet-50: 6×6×256, 4×4×512, 3×3×1024, 2×2×2048), normalised over the batch, and classified by
    a linear layer of its own.

    Args:
        backbone: Config of a ``TimmBackbone`` without classes and without a mask token.
        loss: Config of the loss of every stage, called with logits (B, K) and labels (B,).
        data_preprocessor: Config of the ``ImagePreprocessor``.
        num_classes: K.
        stages: Indices into timm's ``feature_info``.

    Shape:
        image: (B, C, H, W), normalised.
        label: (B,), class indices.

    Raises:
        ValueError: If ``stages`` is empty, or timm does not return such stages of this family.

    Reference:
        Goyal et al., Scaling and Benchmarking Self-Supervised Visual Representation Learning,
        ICCV 2019 (https://arxiv.org/abs/1905.01235).
    """

    data_preprocessor: ImagePreprocessor

    def __init__(
        self,
        backbone: dict,
        loss: dict,
        data_preprocessor: dict,
        *,
        num_classes: int,
        stages: Sequence[int],
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor))
        self.backbone = build_backbone(backbone, self.data_preprocessor).requires_grad_(False)
        self.stage_loss = MODELS.build(loss)
        check_class_weights(self.stage_loss, num_classes)
        self.stages = list(stages)
        channels = _stage_channels(self.backbone.model, self.stages)
        self.readers = nn.ModuleList(_linear_reader(width, num_classes) for width in channels)

    def forward(
        self, image: Tensor, label: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Tensor | None]] | Tensor:
        """Dispatch by mmengine's ``mode``; ``'tensor'`` returns logits (B, S, K)."""
        with torch.no_grad():
            features = self.backbone.model.forward_intermediates(
                image, indices=self.stages, intermediates_only=True
            )
        logits = [read(stage) for read, stage in zip(self.readers, features, strict=True)]
        if mode == 'loss':
            # mmengine sums the losses; no two readers share parameters, so each trains alone.
            return {
                f'loss_stage{stage}': self.stage_loss(scores, label)
                for stage, scores in zip(self.stages, logits, strict=True)
            }
        stacked = torch.stack(logits, dim=1)
        return stacked if mode == 'tensor' else _predictions(stacked, label)

    def train(self, mode: bool = True) -> 'StageProbe':
        """Keep the backbone in evaluation mode: its batch statistics must not change."""
        super().train(mode)
        self.backbone.eval()
        return self

    def init_weights(self) -> None:
        """Load the backbone where the config asks for it; the linear layers start afresh."""
        self.backbone.init_weights()


def has_several(label: Tensor) -> bool:
    """Whether labels are uint8 (B, K), 1 for each class of an image; probabilities are float."""
    return label.ndim == 2 and not label.is_floating_point()


def _predictions(logits: Tensor, label: Tensor | None) -> list[dict[str, Tensor | None]]:
    """Probabilities and label of every image, on the CPU, from logits (B, ..., K).

    Labels (B, K) of several classes are filled up with zeros: a list may lack the last classes.
    """
    if label is not None and has_several(label):
        scores = logits.float().sigmoid().cpu()
        label = pad(label, (0, scores.shape[-1] - label.shape[-1]))
    else:
        scores = logits.float().softmax(dim=-1).cpu()
    labels = [None] * len(scores) if label is None else label.cpu()
    return [dict(scores=s, label=target) for s, target in zip(scores, labels, strict=True)]


def _stage_channels(model: TimmNetwork, stages: list[int]) -> list[int]:
    """Channels of some stages of a timm model."""
    info = getattr(model, 'feature_info', [])
    known = hasattr(model, 'forward_intermediates') and all(0 <= s < len(info) for s in stages)
    if not stages or not known:
        raise ValueError(
            f'stages={stages} must name at least one of the {len(info)} stages that '
            f'{type(model).__name__} returns; tools/analysis_tools/list_stages.py prints them'
        )
    return [info[stage]['num_chs'] for stage in stages]


def _linear_reader(channels: int, num_classes: int) -> nn.Sequential:
    """Average over the finest grid within ``MAX_FEATURES``, normalize, and classify."""
    side = isqrt(MAX_FEATURES // channels)
    linear = nn.Linear(channels * side**2, num_classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(side), nn.BatchNorm2d(channels, affine=False), nn.Flatten(), linear
    )
