"""A random part of the image, brought to the size of training.

Axes: C channels, (H, W) pixels.
"""

import math

import numpy as np
from torch import Tensor

from a2mim.datasets.transforms.resize import as_pair, check_interpolation, resize
from a2mim.registry import TRANSFORMS

NUM_TRIALS = 10


@TRANSFORMS.register_module()
class RandomResizedCrop:
    """Crop a random area of random shape, then resize it.

    The crop is cut before the resize, so that no pixel is resized in vain.

    Args:
        size: Side of the result, or (H, W), in pixels.
        scale: Range of the crop's share of the image's area.
        ratio: Range of the crop's width over height.
        interpolation: 'bilinear', as in the published pre-training, or 'bicubic', as in the
            published fine-tuning.

    Shape:
        image: (C, H, W), uint8.
        returns: (C, *size), uint8.

    Raises:
        ValueError: If a range is not ascending and positive.

    Reference:
        Szegedy et al., CVPR 2015 (https://arxiv.org/abs/1409.4842), section 6; the distribution is
        that of torchvision's class of this name.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = 'bilinear',
    ) -> None:
        for name, (low, high) in (('scale', scale), ('ratio', ratio)):
            if not 0 < low <= high:
                raise ValueError(f'{name}={(low, high)} must be positive and ascending')
        self.size = as_pair(size)
        self.scale = scale
        self.ratio = ratio
        self.log_ratio = math.log(ratio[0]), math.log(ratio[1])
        self.interpolation = check_interpolation(interpolation)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Crop and resize."""
        top, left, height, width = self.box(*image.shape[-2:], rng)
        crop = image[:, top : top + height, left : left + width]
        return resize(crop, self.size, self.interpolation)

    def box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw (top, left, height, width) for an image of ``height`` × ``width`` pixels."""
        for _ in range(NUM_TRIALS):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(*self.log_ratio))
            rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                # Fractions, not integers: the same draws cover the same part of the picture
                # when it is decoded at another size.
                top = int(rng.random() * (height - rows + 1))
                left = int(rng.random() * (width - columns + 1))
                return top, left, rows, columns
        return self._largest_box(height, width)

    def _largest_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The central crop for images so long or so small that no trial fits."""
        rows = min(height, round(width / self.ratio[0]))
        columns = min(width, round(height * self.ratio[1]))
        return (height - rows) // 2, (width - columns) // 2, rows, columns
