"""Masked image modelling: mask, encode, decode, compare.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from typing import cast

from mmengine.model import BaseModel
from torch import Tensor

from a2mim.masking import fill_masked
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.mask_token import MaskToken
from a2mim.models.timm_backbone import build_backbone
from a2mim.registry import MODELS


@MODELS.register_module()
class A2MIM(BaseModel):
    """Pre-train any backbone by reconstructing the masked blocks of an image.

    Masked blocks are filled with the image's mean colour, and the backbone adds its mask token to
    an intermediate feature map: the method makes no assumption about the architecture.

    Args:
        backbone: Config of a ``TimmBackbone`` with ``mask_after`` set.
        neck: Config of the decoder; ``in_channels`` and ``stride`` follow from the backbone,
            ``out_channels`` from the number of means in ``data_preprocessor``.
        head: Config of the ``MIMHead`` that compares in space and in frequency.
        data_preprocessor: Config of the ``ImagePreprocessor``.
        fill: ``'mean'`` fills masked blocks with the image's mean colour; None feeds the whole
            image, so that only the mask token masks.

    Shape:
        image: (B, C, H, W), normalised.
        mask: (B, h, w), 1 where masked.

    Raises:
        ValueError: If ``fill`` is neither ``'mean'`` nor None, or the backbone has no mask token.

    Reference:
        Li et al., A2MIM, ICML 2023 (https://arxiv.org/abs/2205.13943).
    """

    data_preprocessor: ImagePreprocessor

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        data_preprocessor: dict,
        *,
        fill: str | None = 'mean',
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor))
        if fill not in ('mean', None):
            raise ValueError(f"fill={fill!r} must be 'mean' (the paper's choice) or None")
        self.fill = fill
        self.backbone = build_backbone(backbone, self.data_preprocessor)
        if self.backbone.mask_token is None:
            raise ValueError(
                'the backbone has no mask token: set mask_after to the module after which the '
                'token is inserted (tools/analysis_tools/list_stages.py lists the modules)'
            )
        decoder = dict(
            in_channels=self.backbone.out_channels,
            stride=self.backbone.stride,
            out_channels=len(self.data_preprocessor.mean),
        )
        self.neck = MODELS.build({**decoder, **neck})
        self.head = MODELS.build(head)

    def forward(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        label: Tensor | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | Tensor:
        """Dispatch by mmengine's ``mode``; the ``label`` of a batch is not used.

        Raises:
            ValueError: If ``'loss'`` or ``'predict'`` comes without a mask.
        """
        if mode == 'tensor':
            return self.backbone(image)  # (B, C', H', W') of the unmasked image
        if mask is None:
            raise ValueError(f'mode={mode!r} needs a mask (B, h, w); give one in the batch')
        return self.loss(image, mask) if mode == 'loss' else self.predict(image, mask)

    def loss(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Mask, encode, decode, compare: the pipeline figure of the paper in four lines."""
        visible = self.hide(image, mask)
        features = self.backbone(visible, mask)
        reconstruction = self.neck(features)
        return self.head.loss(reconstruction, image, mask)

    def predict(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Reconstruct, and return the images (B, C, H, W) and the mask that a picture shows."""
        visible = self.hide(image, mask)
        reconstruction = self.neck(self.backbone(visible, mask))
        return dict(image=image, visible=visible, reconstruction=reconstruction, mask=mask)

    def hide(self, image: Tensor, mask: Tensor) -> Tensor:
        """The input of the network."""
        return image if self.fill is None else fill_masked(image, mask)

    def init_weights(self) -> None:
        """Initialise or load the backbone; the other parts are initialised at construction."""
        self.backbone.init_weights()


@MODELS.register_module()
class SimMIM(A2MIM):
    """The baseline: A2MIM on the whole image, with a mask token that replaces masked features.

    The target is the image itself. The reference implementation takes the network's input as the
    target, which is constant on masked pixels when that input was filled.

    Raises:
        ValueError: If the mask token adds to masked features instead of replacing them: nothing
            would be masked, since the input shows the blocks to reconstruct.

    Reference:
        Xie et al., SimMIM, CVPR 2022 (https://arxiv.org/abs/2111.09886).
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, data_preprocessor: dict) -> None:
        super().__init__(backbone, neck, head, data_preprocessor, fill=None)
        mode = cast(MaskToken, self.backbone.mask_token).mode
        if mode != 'replace':
            raise ValueError(
                f"SimMIM needs mask_token=dict(mode='replace'), not {mode!r}: an added token "
                'leaves the content of masked blocks in the features'
            )
