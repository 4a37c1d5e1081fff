"""What happens to a batch once it is on the device: scale, normalise, erase, mix.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks, K classes.
The workers hand out uint8, an eighth of the bytes of the float pair that the published system
sent; everything that makes floats of them happens here, once per batch.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from timm.data import Mixup
from torch import Tensor

from a2mim.registry import MODELS


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, normalise its images and, in training, erase and mix.

    Mixing is timm's, one kind and one strength for a batch as in the published system, but for the
    partner of an image: the last is mixed with the first and so on, where the published system
    draws a permutation. Batches come in random order, so that the partner is random either way.

    Args:
        mean: Mean of each channel, in grey levels (0 to 255).
        std: Standard deviation of each channel, in grey levels.
        mixup: Arguments of ``timm.data.Mixup`` (mixup and cutmix); used in training only.
        non_blocking: Copy to the device without waiting; needs pinned memory to matter.

    Shape:
        image: (B, C, H, W), uint8 or float in grey levels; returned as float32, normalised.
        erase: (B, 4), top, left, height and width of boxes in pixels; taken out of the batch and
            filled with noise in training.
        unreadable: (B,), taken out of the batch: a note of the workers for the host.
        mask: (B, h, w), 1 where hidden; returned as float32.
        label: (B,) class indices; with ``mixup``, (B, K) class probabilities in training.

    Raises:
        ValueError: If ``mean`` and ``std`` differ in length, or a batch has another channel count.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        mixup: dict | None = None,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(
                f'mean={list(mean)} and std={list(std)} must have one entry per channel, '
                'and std must be positive (grey levels, 0 to 255)'
            )
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mixup = Mixup(**mixup) if mixup else None
        self.memory_format = torch.contiguous_format

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return a new batch dict, ready for the model."""
        data = {name: value for name, value in data.items() if name != 'unreadable'}
        data = dict(self.cast_data(data))
        data['image'] = self.normalise(data['image'])
        if 'mask' in data:
            data['mask'] = data['mask'].float()
        boxes = data.pop('erase', None)
        if training and boxes is not None:
            data['image'] = fill_boxes(data['image'], boxes)
        if training and self.mixup is not None:
            data['image'], data['label'] = self._mix(data['image'], data['label'])
        return data

    def normalise(self, image: Tensor) -> Tensor:
        """Grey levels (B, C, H, W) to zero mean and unit variance, in the model's layout."""
        if image.shape[1] != len(self.mean):
            raise ValueError(
                f'the images have {image.shape[1]} channels, but mean and std of the '
                f'preprocessor have {len(self.mean)}; give one entry per channel'
            )
        image = image.to(torch.float32, memory_format=self.memory_format)
        return (image - self.mean) / self.std

    def denormalise(self, image: Tensor) -> Tensor:
        """Undo ``normalise`` and round to uint8 grey levels, for pictures."""
        levels = image.float() * self.std + self.mean
        return levels.round().clamp(0, 255).to(torch.uint8)

    def _mix(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        # timm pairs the first image with the last one and so on, and refuses an odd batch. The
        # last batch of an epoch may be odd: its last image is then mixed with its first.
        if len(image) % 2 == 0:
            return self.mixup(image, label)
        image, label = torch.cat([image, image[:1]]), torch.cat([label, label[:1]])
        image, label = self.mixup(image, label)
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
