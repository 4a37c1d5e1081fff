"""Preprocessing of a batch on the device: normalize, erase, mix.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks, K classes.
The workers return pixels in the type of the files, of uint8 an eighth of the bytes of the two float
images of the reference implementation; the conversion to float happens here.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from mmengine.model import BaseDataPreprocessor
from timm.data.mixup import Mixup
from torch import Tensor

from a2mim.registry import MODELS
from a2mim.scale import Scale, check_scale, type_name, type_range

# Types of files that hold more than [0, 255].
WIDE = (torch.uint16, torch.int16, torch.int32)


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, normalize its images and, in training, erase and mix.

    Mixing is timm's, with one kind and one strength for a batch as in the reference implementation.
    timm mixes the first image with the last and so on, where the reference implementation draws a
    permutation; batches are in random order, so that the partner is random either way.

    Args:
        mean: Mean of each channel, of pixel values scaled to [0, 255].
        std: Standard deviation of each channel, of the same.
        mixup: Arguments of ``timm.data.Mixup`` (mixup and cutmix); used in training only.
        scale: How pixel values become [0, 255]: 'dtype' by the range of their type, which leaves
            uint8 as it is; (low, high), each a number or one per channel; 'minmax' and
            'percentile', for which ``tools/train.py`` puts the numbers of the training images.

    Shape:
        image: (B, C, H, W), of any type; with 'dtype', other types than uint16, int16 and int32
            hold values in [0, 255]. Returned as float32, normalised.
        erase: (B, 4), top, left, height and width of boxes in pixels; taken out of the batch and
            filled with noise in training.
        unreadable: (B,), taken out of the batch: for the hook that reports bad images.
        mask: (B, h, w), 1 where masked; returned as float32. If it arrives on the CPU and all
            images have as many masked blocks, their number is returned as ``num_masked``.
        label: (B,) class indices; with ``mixup``, (B, K) class probabilities in training.

    Attributes:
        normalizes_later: Return uint8 images that nothing is mixed with as ``pixels``, as they are,
            in training: a compiled model normalizes them, see ``compile_forward``.

    Raises:
        ValueError: If ``mean`` and ``std`` differ in length, ``scale`` is no rule, or a batch has
            another channel count.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        mixup: dict | None = None,
        scale: Scale = 'dtype',
    ) -> None:
        super().__init__(non_blocking=True)
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(
                f'mean={list(mean)} and std={list(std)} must have one entry per channel, '
                'and std must be positive (of pixel values in [0, 255])'
            )
        self.mean: Tensor
        self.std: Tensor
        self.low: Tensor
        self.gain: Tensor
        self.channels_last = False  # not a torch.memory_format: torch.save of a model takes none
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mixup = Mixup(**mixup) if mixup else None
        self.normalizes_later = False
        self.scale = scale
        ends = check_scale(scale, len(mean))
        if ends is not None:
            low, high = (torch.tensor(end, dtype=torch.float64).view(-1, 1, 1) for end in ends)
            self.register_buffer('low', low.float(), persistent=False)
            self.register_buffer('gain', (255 / (high - low)).float(), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return a new batch dict, ready for the model."""
        data = {name: value for name, value in data.items() if name != 'unreadable'}
        num_masked = count_masked(data.get('mask')) if training else None
        data = self.to_device(data)
        boxes = data.pop('erase', None)
        changed = boxes is not None or self.mixup is not None
        if (
            self.normalizes_later
            and training
            and not changed
            and data['image'].dtype == torch.uint8
        ):
            data['pixels'] = data.pop('image')
        else:
            data['image'] = self.normalize(data['image'])
        if 'mask' in data:
            data['mask'] = data['mask'].float()
        if num_masked is not None:
            data['num_masked'] = num_masked
        if training and boxes is not None:
            data['image'] = fill_boxes(data['image'], boxes)
        if training and self.mixup is not None:
            data['image'], data['label'] = _mix(self.mixup, data['image'], data['label'])
        return data

    @property
    def device(self) -> torch.device:
        """Where the statistics are: a module around the model may have moved them with it."""
        return self.mean.device

    def to_device(self, data: dict) -> dict[str, Any]:
        """A batch on the device of the model, copied while a GPU still computes the last step."""
        if self.device.type != 'cuda':
            return dict(cast(dict, self.cast_data(data)))
        copying = copy_stream(self.device)
        with torch.cuda.stream(copying):
            data = dict(cast(dict, self.cast_data(data)))
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(copying)
        for value in data.values():
            if isinstance(value, Tensor):
                value.record_stream(computing)  # its memory is free once that has read it
        return data

    def normalize(self, image: Tensor) -> Tensor:
        """Pixel values (B, C, H, W) of any type to zero mean and unit variance."""
        if image.shape[1] != len(self.mean):
            raise ValueError(
                f'the images have {image.shape[1]} channels, but mean and std of the '
                f'preprocessor have {len(self.mean)}; give one entry per channel'
            )
        return (self.to_255(image) - self.mean) / self.std

    def to_255(self, image: Tensor) -> Tensor:
        """Pixel values (B, C, H, W) of any type as float32, scaled to [0, 255].

        Raises:
            ValueError: If the scale is a rule that nobody has turned into numbers.
        """
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        values = image.to(torch.float32, memory_format=layout)
        if not isinstance(self.scale, str):
            return (values - self.low) * self.gain
        if self.scale != 'dtype':
            raise ValueError(
                f'scale={self.scale!r} has no numbers yet: tools/train.py measures the training '
                'images and writes them into its config and checkpoints; give (low, high) from '
                'there, or from tools/prepare_data/compute_stats.py --scale'
            )
        if image.dtype not in WIDE:
            return values
        low, high = type_range(type_name(image))
        return (values - low) * (255 / (high - low))

    def denormalize(self, image: Tensor) -> Tensor:
        """Undo ``normalize`` and round to uint8, for pictures."""
        pixels = image.float() * self.std + self.mean
        return pixels.round().clamp(0, 255).to(torch.uint8)


@cache
def copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which batches are copied to ``device``; no part of a model, to copy it."""
    return torch.cuda.Stream(device)


def count_masked(mask: Tensor | None) -> int | None:
    """Masked blocks of each image; None if they differ or counting would wait for a device."""
    if mask is None or mask.device.type != 'cpu':
        return None
    counts = mask.flatten(1).count_nonzero(dim=1).tolist()
    return counts[0] if len(set(counts)) == 1 else None


def _mix(mixup: Mixup, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    if label.ndim != 1:
        raise ValueError(
            'mixup is for images with one class, and these have several; set '
            'model.data_preprocessor.mixup=None'
        )
    # timm refuses an odd batch, as the last one of an epoch may be: its last image is mixed with
    # its first.
    if len(image) % 2 == 0:
        return mixup(image, label)
    image, label = torch.cat([image, image[:1]]), torch.cat([label, label[:1]])
    image, label = mixup(image, label)
    return image[:-1], label[:-1]


def fill_boxes(image: Tensor, boxes: Tensor) -> Tensor:
    """Standard normal noise, pixel by pixel, inside one box per image.

    Shape:
        image: (B, C, H, W), normalised.
        boxes: (B, 4), int64: top, left, height, width; no height or no width for no box.
        returns: (B, C, H, W).
    """
    top, left, height, width = boxes.view(-1, 4, 1, 1, 1).unbind(1)  # each (B, 1, 1, 1)
    row = torch.arange(image.shape[2], device=image.device).view(1, 1, -1, 1)
    column = torch.arange(image.shape[3], device=image.device)
    inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    return torch.where(inside, torch.randn_like(image), image)
