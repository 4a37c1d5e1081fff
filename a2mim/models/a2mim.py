"""Masked image modelling: hide, encode, decode, compare.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from mmengine.model import BaseModel
from torch import Tensor

from a2mim.masking import fill_hidden
from a2mim.models.timm_backbone import build_backbone
from a2mim.registry import MODELS


@MODELS.register_module()
class A2MIM(BaseModel):
    """Pre-train any backbone by reconstructing the hidden blocks of an image.

    Hidden blocks are filled with the image's mean colour, and the backbone adds its mask token to
    an intermediate feature map, so that no part of the method depends on the architecture.

    Args:
        backbone: Config of a ``TimmBackbone`` with ``mask_after`` set.
        neck: Config of the decoder; ``in_channels`` and ``stride`` follow from the backbone,
            ``out_channels`` from the number of means in ``data_preprocessor``.
        head: Config of the ``MIMHead`` that compares in space and in frequency.
        data_preprocessor: Config of the ``ImagePreprocessor``.
        fill: ``'mean'`` fills hidden blocks with the image's mean colour; None feeds the image as
            it is and leaves all hiding to the mask token.

    Shape:
        image: (B, C, H, W), normalised.
        mask: (B, h, w), 1 where hidden.

    Raises:
        ValueError: If ``fill`` is neither ``'mean'`` nor None, or the backbone has no mask token.

    Reference:
        Li et al., A2MIM, ICML 2023 (https://arxiv.org/abs/2205.13943).
    """

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
                'the backbone has no mask token: set mask_after to the module behind which hidden '
                'positions are marked (tools/analysis_tools/list_stages.py lists them)'
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
        """Dispatch as mmengine asks for: ``'loss'``, ``'predict'`` or ``'tensor'``.

        A ``label`` that the data set carries along is not used.
        """
        if mode == 'loss':
            return self.loss(image, mask)
        if mode == 'predict':
            return self.predict(image, mask)
        return self.backbone(image)  # (B, C', H', W') of the whole image, nothing hidden

    def loss(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Hide, encode, decode, compare: the pipeline figure of the paper in four lines."""
        visible = self.hide(image, mask)
        features = self.backbone(visible, mask)
        reconstruction = self.neck(features)
        return self.head.loss(reconstruction, image, mask)

    def predict(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Reconstruct, and return what a picture needs: each (B, C, H, W), and the mask."""
        visible = self.hide(image, mask)
        reconstruction = self.neck(self.backbone(visible, mask))
        return dict(image=image, visible=visible, reconstruction=reconstruction, mask=mask)

    def hide(self, image: Tensor, mask: Tensor) -> Tensor:
        """The image as the network sees it."""
        return image if self.fill is None else fill_hidden(image, mask)

    def init_weights(self) -> None:
        """Initialise or load the trunk; every other part initialises itself at construction."""
        self.backbone.init_weights()


# [simmim]
# SimMIM: the baseline that hides nothing in the image and replaces features instead.


@MODELS.register_module()
class SimMIM(A2MIM):
    """A2MIM with an untouched input image and a mask token that replaces hidden features.

    The target is always the image itself. The published class takes the network's input as the
    target, which is a constant on hidden pixels when that input was filled.

    Raises:
        ValueError: If the mask token adds to hidden features instead of replacing them. Nothing
            would then be hidden, since the input image shows the blocks to reconstruct.

    Reference:
        Xie et al., SimMIM, CVPR 2022 (https://arxiv.org/abs/2111.09886).
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, data_preprocessor: dict) -> None:
        super().__init__(backbone, neck, head, data_preprocessor, fill=None)
        if self.backbone.mask_token.mode != 'replace':
            raise ValueError(
                f"SimMIM needs mask_token=dict(mode='replace'), not "
                f'{self.backbone.mask_token.mode!r}: an added token leaves the hidden content '
                'in the features'
            )
