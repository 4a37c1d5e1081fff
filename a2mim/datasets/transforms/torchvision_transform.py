"""Any transform of torchvision by its name.

Axes: C channels, (H, W) pixels.
"""

from difflib import get_close_matches

import numpy as np
from torch import Tensor, nn
from torchvision.transforms import v2

from a2mim.datasets.transforms.global_generators import seeded_globally
from a2mim.registry import TRANSFORMS


@TRANSFORMS.register_module()
class TorchvisionTransform:
    """A transform of ``torchvision.transforms.v2`` whose randomness comes from the sample's key.

    Args:
        name: Name of the class, such as 'ColorJitter'.
        **options: Its arguments.

    Shape:
        image: (C, H, W), uint8; torchvision's colour operations refuse other than 1 or 3 channels.
        returns: what the transform makes of it.

    Raises:
        ValueError: If torchvision has no such transform.
    """

    def __init__(self, name: str, **options: object) -> None:
        transform = getattr(v2, name, None)
        if not (isinstance(transform, type) and issubclass(transform, nn.Module)):
            near = get_close_matches(name, dir(v2))
            raise ValueError(
                f'torchvision.transforms.v2 has no transform name={name!r}; near names: {near}'
            )
        self.transform = transform(**options)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Apply the transform."""
        with seeded_globally(rng):
            return self.transform(image)
