"""The rectangle of an image that is to be erased.

Axes: (H, W) pixels.
"""

import math

import numpy as np
import torch
from torch import Tensor

from a2mim.datasets.transforms.resize import as_pair
from a2mim.registry import TRANSFORMS

NUM_TRIALS = 10
AREA = (0.02, 1 / 3)  # share of the image
LOG_RATIO = (math.log(0.3), -math.log(0.3))  # height over width


@TRANSFORMS.register_module()
class RandomErasing:
    """Draw a box in a share of the images; the device that trains fills it with noise.

    The noise follows normalising, so that it has the statistics of an image, and is no byte. A
    worker therefore hands over four numbers.

    Args:
        image_size: Side of the image, or (H, W), in pixels.
        p: Probability of a box.

    Shape:
        returns: (4,), int64: top, left, height and width of the box; all 0 for none.

    Raises:
        ValueError: If ``p`` is outside [0, 1].

    Reference:
        Zhong et al., Random Erasing, AAAI 2020 (https://arxiv.org/abs/1708.04896); the distribution
        is that of ``timm.data.random_erasing`` with one box.
    """

    def __init__(self, image_size: int | tuple[int, int], p: float) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f'p={p} must be a probability in [0, 1]')
        self.image_size = as_pair(image_size)
        self.p = p

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw the box of one image."""
        box = self._box(rng) if rng.random() < self.p else None
        return torch.tensor(box or (0, 0, 0, 0))

    def _box(self, rng: np.random.Generator) -> tuple[int, int, int, int] | None:
        """The first of some boxes that is smaller than the image."""
        height, width = self.image_size
        for _ in range(NUM_TRIALS):
            area = height * width * rng.uniform(*AREA)
            ratio = math.exp(rng.uniform(*LOG_RATIO))
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if rows < height and columns < width:
                top = int(rng.integers(height - rows + 1))
                left = int(rng.integers(width - columns + 1))
                return top, left, rows, columns
        return None
