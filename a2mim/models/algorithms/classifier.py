"""Fine-tuning and linear probing: the same trunk with timm's own classification head.

Axes: B batch, C channels, (H, W) pixels, K classes.
"""

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from a2mim.models.algorithms.parts import build_backbone
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
