"""Teachers: networks whose features of the whole image are the target of masked image modelling.

Axes: B batch, C channels of the image, D width of the teacher, (H, W) pixels.
"""

import copy
import logging
from collections.abc import Sequence
from typing import cast

import torch
from mmengine.logging import print_log
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch import _foreach_norm as foreach_norm  # pyright: ignore[reportPrivateImportUsage]
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.multi_scale import read_maps
from a2mim.models.timm_backbone import TimmBackbone, build_backbone

EMA = 'ema'
DECAY = 0.9998  # of Data2Vec, which looks back over 5000 steps, 8 of its 800 epochs


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

    One with weights of timm, or a name that ends in their tag, gets images with the normalisation
    that timm states for these; with other channels than those, the images of the student.

    Raises:
        ValueError: If it is a word other than ``'ema'``, timm has no such model, or it takes images
            of other channels.
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
    network = made.network
    if network._layout is not None and network._in_channels != num_channels:
        raise ValueError(
            f'the teacher takes images of {network._in_channels} channels, and these have '
            f'{num_channels}: set in_chans={num_channels} of the teacher'
        )
    if not isinstance(teacher, dict):
        return made
    of_timm = teacher.get('pretrained') or '.' in str(teacher.get('model_name'))
    made.untrained = not (teacher.get('pretrained') or 'init_cfg' in teacher)
    data = resolve_model_data_config(network.model)
    if of_timm and len(data['mean']) == num_channels:
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
