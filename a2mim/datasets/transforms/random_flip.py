"""Mirror images."""

import numpy as np
from torch import Tensor

from a2mim.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomFlip:
    """Exchange left and right in a share of the images.

    Args:
        p: Probability of a flip.

    Shape:
        image: (C, H, W).
        returns: the same.

    Raises:
        ValueError: If ``p`` is outside [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f'p={p} must be a probability in [0, 1]')
        self.p = p

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Flip or not."""
        return image.flip(-1) if rng.random() < self.p else image
