"""Feature targets: predict, where the image is masked, what a teacher sees in the whole image.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from a2mim.masking import fill_masked
from a2mim.models.a2mim import check_decoder
from a2mim.models.algorithm import MaskedModel, build_decoder
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.teacher import DECAY, EMA, build_teacher
from a2mim.models.timm_backbone import TimmBackbone, build_backbone
from a2mim.registry import MODELS, build_module
from a2mim.weights.load_model import InputSpec

QUANTILES = (0.02, 0.98)  # quantiles of a component that are its darkest and brightest
TINY = 1e-12


@MODELS.register_module()
class FeatureMIM(MaskedModel):
    """Pre-train any backbone by predicting a teacher's features at masked positions.

    The backbone gets the image with masked blocks in their mean colour and adds its mask token, as
    in ``A2MIM``; the teacher gets the whole image. No gradient reaches the teacher.

    Each part is a config or an object.

    Args:
        backbone: ``TimmBackbone`` with ``mask_after`` set; or any ``nn.Module`` with feature maps.
        neck: The decoder, ``PixelShuffleDecoder`` for a linear layer; of a config, what depends on
            backbone and teacher follows.
        head: The ``MIMHead`` that compares; Data2Vec has
            ``spatial=dict(type='HuberLoss', beta=2.0)`` alone.
        data_preprocessor: The ``ImagePreprocessor``.
        teacher: ``'ema'`` for an exponential moving average of the backbone (Data2Vec), or a
            ``TimmBackbone``, which stays as it is (MaskDistill).
        decay: Weight of the old average in each update of it, from 0 to below 1.
        layers: The target is the mean of the outputs of so many last blocks, or of as many as have
            the grid and the width of the last one: of a CNN that is the last stage.
        mask_after, mask_token: Of the backbone, see ``TimmBackbone``; for a network that is not
            one, ``mask_after`` is needed.

    Shape:
        image: (B, C, H, W), normalised.
        mask: (B, h, w), 1 where masked.

    Raises:
        ValueError: If the backbone has no mask token, a number is out of range, or backbone and
            teacher have grids of which none divides the other.

    Reference:
        Baevski et al., data2vec, ICML 2022 (https://arxiv.org/abs/2202.03555); Peng et al.,
        MaskDistill, 2022 (https://arxiv.org/abs/2210.10615).
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | ImagePreprocessor,
        *,
        teacher: str | dict | nn.Module = EMA,
        decay: float = DECAY,
        layers: int = 6,
        mask_after: str | int | None = None,
        mask_token: dict | None = None,
    ) -> None:
        super().__init__(build_module(data_preprocessor))
        self.backbone = build_backbone(
            backbone, self.data_preprocessor, mask_after=mask_after, mask_token=mask_token
        )
        if self.backbone.mask_token is None:
            raise ValueError(
                'the backbone has no mask token: set mask_after to the module after which the '
                f'token is inserted: {self.backbone.places()}'
            )
        self.teacher = build_teacher(
            teacher, self.backbone, self.data_preprocessor, decay=decay, layers=layers
        )
        finer, self.pooled = match_grids(self.backbone, self.teacher.network)
        decoder = dict(
            in_channels=self.backbone.out_channels,
            stride=finer,
            out_channels=self.teacher.network.out_channels,
        )
        if isinstance(neck, nn.Module):
            check_decoder(neck, self.backbone, decoder)
        self.neck = build_decoder(neck, decoder)
        self.head: Any = build_module(head)
        if getattr(self.head, 'target', None) is not None:
            raise ValueError(
                f'the target is the teacher: leave target={type(self.head.target).__name__} out '
                'of the head; A2MIM takes it'
            )
        self.input_spec = InputSpec(self.backbone.image_size)  # unless a config tells

    def loss(self, image: Tensor, mask: Tensor, num_masked: int | None = None) -> dict[str, Tensor]:
        """Mask, encode, predict, compare; in training the average is brought up to date first."""
        if self.training:
            self.teacher.follow(self.backbone)
        predicted = self.features_of(fill_masked(image, mask), mask)
        return self.head.loss(predicted, self.teacher(image), mask)

    def features_of(self, visible: Tensor, mask: Tensor) -> Tensor:
        """What the student predicts of the teacher's features, in their shape."""
        features = self.backbone(visible, mask)
        if self.pooled > 1:
            features = F.avg_pool2d(features, self.pooled)
        return self.neck(features)

    def predict(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) for a picture: see ``A2MIM.predict`` and ``colours``."""
        visible = fill_masked(image, mask)
        target, predicted = colours(self.teacher(image), self.features_of(visible, mask), image)
        return dict(
            image=image, visible=visible, target=target, reconstruction=predicted, mask=mask
        )

    def check_mask(
        self, image_size: tuple[int, int], grid: tuple[int, int], num_masked: int
    ) -> None:
        """Check images and a mask of ``grid`` (h, w) blocks; also called before the first step.

        Raises:
            ValueError: If the teacher takes no such image, or has features that are masked in part.
        """
        self.backbone.check_mask_grid(image_size, grid)
        try:
            features = self.teacher.network.grid_of(image_size)
        except ValueError as error:
            raise ValueError(
                f'the teacher does not fit: {error}: set img_size={image_size} of the teacher, or '
                'take A2MIM, which predicts pixels'
            ) from error
        if features[0] % grid[0] or features[1] % grid[1]:
            raise ValueError(
                f'the teacher has {features[0]}×{features[1]} features for a mask of '
                f'{grid[0]}×{grid[1]} blocks, so that some are masked in part: choose a block_size '
                f'that is a multiple of its stride {self.teacher.network.stride}, or A2MIM, which '
                'predicts pixels'
            )

    def init_weights(self) -> None:
        """Initialise or load the backbone and the teacher; an average begins as the backbone."""
        super().init_weights()
        self.teacher.begin(self.backbone)


def colours(target: Tensor, predicted: Tensor, image: Tensor) -> list[Tensor]:
    """Draw features by their principal components, one a channel, in the range of each image.

    Both are projected alike: equal colours are equal features, but for the other components.

    Shape:
        target, predicted: (B, D, h, w).
        image: (B, C, H, W).
        returns: Two of the shape of ``image``.
    """
    rows = [f.float().nan_to_num().permute(0, 2, 3, 1) for f in (target, predicted)]
    centre, number = rows[0].mean(dim=(0, 1, 2)), image.shape[1]
    axes = torch.linalg.svd((rows[0] - centre).flatten(0, 2), full_matrices=False).Vh[:number]
    # A decomposition leaves the signs open: the largest entry is positive.
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    axes = F.pad(axes, (0, 0, 0, number - len(axes)))
    # Autocast has a type of its own, of which a GPU takes no quantiles.
    values = [((each - centre) @ axes.T).float() for each in rows]
    ends = torch.tensor(QUANTILES, device=image.device)
    low, high = torch.quantile(values[0].flatten(0, 2), ends, dim=0)
    darkest, brightest = image.amin((1, 2, 3), True), image.amax((1, 2, 3), True)
    drawn = []
    for value in values:
        share = ((value - low) / (high - low).clamp(min=TINY)).clamp(0, 1).permute(0, 3, 1, 2)
        share = F.interpolate(share, size=image.shape[-2:])
        drawn.append(torch.lerp(darkest.float(), brightest.float(), share))
    return drawn


def match_grids(backbone: TimmBackbone, teacher: TimmBackbone) -> tuple[int, int]:
    """Features of the teacher along a side of one of the backbone, and the other way round.

    Raises:
        ValueError: If neither is a whole number, or the teacher returns no map.
    """
    own, other = backbone.stride, teacher.stride
    if other is None or not isinstance(teacher.out_channels, int):
        raise ValueError(
            'the teacher returns no feature map: leave num_classes and out_indices out of it'
        )
    if own == other:
        return 1, 1
    if isinstance(own, int) and isinstance(other, int):
        if own % other == 0:
            return own // other, 1
        if other % own == 0:
            return 1, other // own
    raise ValueError(
        f'a feature of the backbone covers {own} pixels, one of the teacher {other}, and neither '
        f'is a multiple of the other: choose a teacher whose stride divides {own}, or A2MIM, '
        'which predicts pixels'
    )
