"""A pipeline: transforms one after the other, fed by one source of randomness."""

import numpy as np
from torch import Tensor

from a2mim.registry import TRANSFORMS


class Pipeline:
    """A chain of transforms ``(image, rng) -> image``.

    Args:
        configs: One config per transform, applied in order.
    """

    def __init__(self, configs: list[dict]) -> None:
        self.transforms = [TRANSFORMS.build(config) for config in configs]

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Apply them all."""
        for transform in self.transforms:
            image = transform(image, rng)
        return image
