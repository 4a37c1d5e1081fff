"""The centre of an image.

Axes: C channels, (H, W) pixels.
"""

import numpy as np
from torch import Tensor

from a2mim.datasets.transforms.resize import as_pair
from a2mim.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CenterCrop:
    """Cut out the centre, with the rounding of torchvision.

    Args:
        size: Side of a square, or (H, W), in pixels.

    Shape:
        image: (C, H, W), uint8.
        returns: (C, *size), a view.

    Raises:
        ValueError: If the image is smaller than the crop.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = as_pair(size)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Cut; ``rng`` is not used."""
        height, width = self.size
        spare_rows, spare_columns = image.shape[-2] - height, image.shape[-1] - width
        if spare_rows < 0 or spare_columns < 0:
            raise ValueError(
                f'cannot cut {height}×{width} pixels out of an image of '
                f'{image.shape[-2]}×{image.shape[-1]}; put a Resize of at least that size before'
            )
        top, left = round(spare_rows / 2), round(spare_columns / 2)
        return image[:, top : top + height, left : left + width]
