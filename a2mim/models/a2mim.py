"""Masked image modelling: mask, encode, decode, compare.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from a2mim.masking import fill_masked
from a2mim.models import masked_decoding
from a2mim.models.algorithm import MaskedModel, build_decoder
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.mask_token import MaskToken
from a2mim.models.targets import FeatureTarget
from a2mim.models.timm_backbone import TimmBackbone, build_backbone
from a2mim.models.timm_inspection import trace_shapes
from a2mim.registry import MODELS, build_module
from a2mim.weights.load_model import InputSpec


@MODELS.register_module()
class A2MIM(MaskedModel):
    """Pre-train any backbone by reconstructing the masked blocks of an image.

    Masked blocks are filled with the image's mean colour, and the backbone adds its mask token to
    an intermediate feature map: the method makes no assumption about the architecture.

    Each of the four parts is a config or an object.

    Args:
        backbone: ``TimmBackbone`` with ``mask_after`` set; or any ``nn.Module`` with feature maps.
        neck: The decoder; of a config ``in_channels`` and ``stride`` follow from the backbone,
            ``out_channels`` from the number of means in ``data_preprocessor``; with a feature
            target in the head, ``stride`` and ``out_channels`` follow from that.
        head: The ``MIMHead`` that compares in space and in frequency.
        data_preprocessor: The ``ImagePreprocessor``.
        mask_after, mask_token: Of the backbone, see ``TimmBackbone``; for a network that is not
            one, ``mask_after`` is needed.
        fill: ``'mean'`` fills masked blocks with the image's mean colour; None feeds the whole
            image, so that only the mask token masks.
        residual: Add the image's mean colour to the output of the decoder, which then predicts the
            deviation from it.

    Shape:
        image: (B, C, H, W), normalised.
        mask: (B, h, w), 1 where masked.

    Raises:
        ValueError: If ``fill`` is neither ``'mean'`` nor None, the backbone has no mask token, the
            target does not fit ``residual`` or the stride of the backbone, or a decoder that is
            an object does not fit the backbone.

    Reference:
        Li et al., A2MIM, ICML 2023 (https://arxiv.org/abs/2205.13943).
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | ImagePreprocessor,
        *,
        mask_after: str | int | None = None,
        mask_token: dict | None = None,
        fill: str | None = 'mean',
        residual: bool = False,
    ) -> None:
        super().__init__(build_module(data_preprocessor))
        if fill not in ('mean', None):
            raise ValueError(f"fill={fill!r} must be 'mean' (the paper's choice) or None")
        self.fill = fill
        self.backbone = build_backbone(
            backbone, self.data_preprocessor, mask_after=mask_after, mask_token=mask_token
        )
        if self.backbone.mask_token is None:
            raise ValueError(
                'the backbone has no mask token: set mask_after to the module after which the '
                'token is inserted (tools/analysis_tools/list_stages.py lists the modules): '
                f'{self.backbone.places()}'
            )
        self.head = build_head(head, data_preprocessor)
        if residual and self.target is not None:
            raise ValueError(
                'residual=True adds the mean colour, but the target is '
                f'{type(self.target).__name__}: leave residual out, or the target'
            )
        self.residual = residual
        self.input_spec = InputSpec(self.backbone.image_size)  # unless a config tells
        decoder = decoder_options(self.backbone, len(self.data_preprocessor.mean), self.target)
        if isinstance(neck, nn.Module):
            check_decoder(neck, self.backbone, decoder)
        self.neck = build_decoder(neck, decoder)

    def loss(self, image: Tensor, mask: Tensor, num_masked: int | None = None) -> dict[str, Tensor]:
        """Mask, encode, decode, compare: the pipeline figure of the paper in four lines.

        ``num_masked``, the masked blocks of every image, saves the loss most of the decoding.
        """
        visible = self.hide(image, mask)
        features = self.backbone(visible, mask)
        if num_masked is not None and not self.residual and self.decodes_masked(features, mask):
            return masked_decoding.losses(self.neck, self.head, features, image, mask, num_masked)
        reconstruction = self.decode(features, image)
        return self.head.loss(reconstruction, image, mask)

    def decodes_masked(self, features: Tensor, mask: Tensor) -> bool:
        """Whether the loss can do without the full reconstruction."""
        parts = masked_decoding.is_linear(self.neck, self.head)
        return parts and masked_decoding.tiles(features, mask)

    def predict(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Reconstruct, and return the images (B, C, H, W) and the mask that a picture shows.

        With a feature target, ``reconstruction`` is the picture of the predicted features, and
        ``target`` that of the features of ``image``.
        """
        visible = self.hide(image, mask)
        reconstruction = self.decode(self.backbone(visible, mask), image)
        pictures = dict(image=image, visible=visible, reconstruction=reconstruction, mask=mask)
        if self.target is not None:
            pictures['reconstruction'] = self.target.picture(reconstruction, image)
            pictures['target'] = self.target.picture(self.target(image), image)
        return pictures

    def decode(self, features: Tensor, image: Tensor) -> Tensor:
        """The output of the decoder; with ``residual``, the deviation from the mean colour."""
        decoded = self.neck(features)
        return decoded + image.mean(dim=(2, 3), keepdim=True) if self.residual else decoded

    @property
    def target(self) -> FeatureTarget | None:
        """The features to reconstruct, None for pixels."""
        return getattr(self.head, 'target', None)

    def hide(self, image: Tensor, mask: Tensor) -> Tensor:
        """The input of the network."""
        return image if self.fill is None else fill_masked(image, mask)


def build_head(config: dict | nn.Module, data_preprocessor: dict | ImagePreprocessor) -> Any:
    """Build a head; a target in it gets the statistics that ``data_preprocessor`` states."""
    if isinstance(config, dict) and isinstance(config.get('target'), dict):
        statistics = {
            name: getattr(data_preprocessor, name).flatten().tolist()
            if isinstance(data_preprocessor, ImagePreprocessor)
            else data_preprocessor[name]
            for name in ('mean', 'std')
        }
        config = {**config, 'target': {**statistics, **config['target']}}
    return build_module(config)


def check_decoder(neck: nn.Module, backbone: TimmBackbone, wanted: Mapping[str, Any]) -> None:
    """Refuse a decoder that makes no image, or other target, of the features of ``backbone``.

    Raises:
        ValueError: If so, with the shapes.
    """
    grid, side = (4, 4), 4 * wanted['stride']
    expected = (1, wanted['out_channels'], side, side)
    try:
        found, _ = trace_shapes(neck, (wanted['in_channels'], *grid), [])
    except Exception as error:  # of any type
        raise ValueError(
            f'{type(neck).__name__} does not take the features of the backbone, of '
            f'{wanted["in_channels"]} channels: {error}'
        ) from error
    if found != expected:
        raise ValueError(
            f'{type(neck).__name__} makes {found} of features (1, {wanted["in_channels"]}, 4, 4); '
            f'{expected} are needed: stride {wanted["stride"]}'
        )


def decoder_options(
    backbone: TimmBackbone, num_channels: int, target: FeatureTarget | None
) -> dict[str, Any]:
    """Options of a decoder from the features of ``backbone`` to ``target``, None for pixels.

    Raises:
        ValueError: If a feature of the backbone does not cover whole values of the target.
    """
    options = dict(
        in_channels=backbone.out_channels, stride=backbone.stride, out_channels=num_channels
    )
    if target is None:
        return options
    stride = backbone.stride
    if not isinstance(stride, int) or stride % target.stride:
        raise ValueError(
            f'{type(target).__name__} has one value per {target.stride} pixels, but a feature of '
            f'the backbone covers {stride}: choose a cell size that divides {stride}'
        )
    channels = target.num_channels(num_channels)
    return {**options, 'stride': stride // target.stride, 'out_channels': channels}


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

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | ImagePreprocessor,
        *,
        mask_after: str | int | None = None,
        mask_token: dict | None = None,
    ) -> None:
        super().__init__(
            backbone,
            neck,
            head,
            data_preprocessor,
            mask_after=mask_after,
            mask_token=mask_token,
            fill=None,
        )
        mode = cast(MaskToken, self.backbone.mask_token).mode
        if mode != 'replace':
            raise ValueError(
                f"SimMIM needs mask_token=dict(mode='replace'), not {mode!r}: an added token "
                'leaves the content of masked blocks in the features'
            )
