"""Feature targets: predict, where the image is masked, what a teacher sees in the whole image.

Axes: B batch, C channels, D width of the teacher, (H, W) pixels, (h, w) mask blocks.
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
from mmengine.logging import print_log
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch import _foreach_norm as foreach_norm  # pyright: ignore[reportPrivateImportUsage]
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.masking import fill_masked
from a2mim.models.a2mim import check_decoder
from a2mim.models.algorithm import MaskedModel
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.multi_scale import read_maps
from a2mim.models.timm_backbone import TimmBackbone, build_backbone
from a2mim.registry import MODELS, build_module
from a2mim.weights.load_model import InputSpec

EMA = 'ema'
DECAY = 0.9998  # of Data2Vec, which looks back over 5000 steps, 8 of its 800 epochs


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
        self.neck: Any = neck if isinstance(neck, nn.Module) else MODELS.build({**decoder, **neck})
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
        features = self.backbone(fill_masked(image, mask), mask)
        if self.pooled > 1:
            features = F.avg_pool2d(features, self.pooled)
        return self.head.loss(self.neck(features), self.teacher(image), mask)

    def check_mask(
        self, image_size: tuple[int, int], grid: tuple[int, int], num_masked: int
    ) -> None:
        """Check images and a mask of ``grid`` (h, w) blocks; also called before the first step.

        Raises:
            ValueError: If the teacher takes no such image, or has features that are masked in part.
        """
        self.backbone.check_mask_grid(image_size, grid)
        features = self.teacher.network.grid_of(image_size)
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


class Teacher(nn.Module):
    """Features of whole images, each with zero mean and unit variance over its channels.

    Args:
        network: A backbone, which is taken as it is.
        layers: See ``FeatureMIM``.
        num_channels: C.

    Shape:
        image: (B, C, H, W), normalised as for the student.
        returns: (B, D, H / stride, W / stride), in float32.

    Raises:
        ValueError: If ``layers`` is less than 1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: TimmBackbone, layers: int, num_channels: int) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f'layers={layers} must be at least 1; the published number is 6')
        self.network = network.requires_grad_(False)
        self.depths = last_depths(network, layers)
        self.untrained = False
        # From the student's normalisation to the one with which the teacher was trained.
        self.register_buffer('scale', torch.ones(num_channels, 1, 1))
        self.register_buffer('shift', torch.zeros(num_channels, 1, 1))
        self.train()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Normalise the output of each of the last blocks, average, and normalise once more."""
        image = image * self.scale + self.shift
        if self.depths:
            maps: Sequence[Tensor] = read_maps(self.network.model, image, self.depths)
        else:
            maps = [cast(Tensor, self.network(image))]
        normalised = [normalize(features) for features in maps]
        return normalize(torch.stack(normalised).mean(0))

    def train(self, mode: bool = True) -> 'Teacher':
        """Stay in evaluation mode: without dropout and stochastic depth, as published."""
        super().train(False)
        return self

    def begin(self, student: TimmBackbone) -> None:
        """Load the weights before the first step."""
        self.network.init_weights()
        if self.untrained:
            print_log(
                'the teacher has random weights: set pretrained=True for those of timm, or '
                "init_cfg=dict(type='Pretrained', checkpoint=FILE)",
                logger='current',
                level=logging.WARNING,
            )

    def follow(self, student: TimmBackbone) -> None:
        """Take what ``student`` has learnt; nothing for a frozen teacher."""


class AveragedTeacher(Teacher):
    """An exponential moving average of the parameters of the student.

    Batch norm takes the statistics of each batch of whole images, as the target network of BYOL
    does: the student's running ones are those of masked images.

    Args:
        student: The backbone.
        layers, num_channels: See ``Teacher``.
        decay: See ``FeatureMIM``.

    Attributes:
        norms: Of the parameters of the student when it was last looked at; in checkpoints, so that
            a run that stops between two steps of the optimiser resumes bit for bit.

    Raises:
        ValueError: If ``decay`` lies outside [0, 1).
    """

    norms: Tensor

    def __init__(self, student: TimmBackbone, layers: int, num_channels: int, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(
                f'decay={decay} must be from 0 to below 1: it is the weight of the old average, '
                f'such as {DECAY} over 5000 steps; with 1 the teacher never learns'
            )
        network = copy.deepcopy(student)
        network.mask_token = None
        super().__init__(network, layers, num_channels)
        self.decay = decay
        self.register_buffer('norms', norms_of(student))

    def train(self, mode: bool = True) -> 'AveragedTeacher':
        """Stay in evaluation mode, but for batch norm."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode)
        return self

    @torch.no_grad()
    def begin(self, student: TimmBackbone) -> None:
        """Copy the student, whose weights are loaded by now."""
        self.network.model.load_state_dict(student.model.state_dict())
        self.norms.copy_(norms_of(student))

    @torch.compiler.disable
    @torch.no_grad()
    def follow(self, student: TimmBackbone) -> None:
        """Update the average if the student has changed since the last call.

        Under gradient accumulation it changes once in several calls. That is seen by the norms of
        its parameters, on the device: a fused optimiser leaves no other trace.
        """
        norms = norms_of(student)
        share = (norms != self.norms).any() * (1 - self.decay)
        pairs = zip(self.network.model.parameters(), student.model.parameters(), strict=True)
        for average, parameter in pairs:
            average.lerp_(parameter, share.to(parameter.dtype))
        self.norms.copy_(norms)


def norms_of(student: TimmBackbone) -> Tensor:
    """The norm of each parameter, without gradient."""
    norms = foreach_norm([parameter.detach() for parameter in student.model.parameters()])
    return torch.stack([norm.float() for norm in norms])


def build_teacher(
    teacher: str | dict | nn.Module,
    student: TimmBackbone,
    data_preprocessor: ImagePreprocessor,
    *,
    decay: float,
    layers: int,
) -> Teacher:
    """The teacher that ``FeatureMIM`` is asked for.

    One with weights of timm gets images with the normalisation that timm states for these.

    Raises:
        ValueError: If it is a word other than ``'ema'``, or timm has no such model.
    """
    num_channels = len(data_preprocessor.mean)
    if teacher == EMA:
        return AveragedTeacher(student, layers, num_channels, decay)
    if isinstance(teacher, str):
        raise ValueError(
            f"teacher={teacher!r} must be 'ema', or the config of a network such as "
            f"dict(type='TimmBackbone', model_name={teacher!r}, pretrained=True)"
        )
    made = Teacher(build_backbone(teacher, data_preprocessor), layers, num_channels)
    made.untrained = isinstance(teacher, dict) and not teacher.keys() & {'pretrained', 'init_cfg'}
    if isinstance(teacher, dict) and teacher.get('pretrained'):
        data = resolve_model_data_config(made.network.model)
        mean, std = (255 * torch.tensor(data[key]).view(-1, 1, 1) for key in ('mean', 'std'))
        made.scale.copy_(data_preprocessor.std / std)
        made.shift.copy_((data_preprocessor.mean - mean) / std)
    return made


def normalize(features: Tensor) -> Tensor:
    """Zero mean and unit variance over the channels of each position, in float32."""
    rows = features.float().permute(0, 2, 3, 1)
    return F.layer_norm(rows, rows.shape[-1:]).permute(0, 3, 1, 2)


def last_depths(network: TimmBackbone, layers: int) -> list[int]:
    """Indices into timm's ``feature_info`` of up to ``layers`` last blocks like the output.

    Empty where there is none: the output itself is the target then.
    """
    depths = list(getattr(network.model, 'feature_info', []))
    if not hasattr(network.model, 'forward_intermediates'):
        return []
    found = []
    for index in reversed(range(len(depths))):
        like = (depths[index]['num_chs'], depths[index]['reduction'])
        if like != (network.out_channels, network.stride) or len(found) == layers:
            break
        found.insert(0, index)
    return found


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
