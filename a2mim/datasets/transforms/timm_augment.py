"""timm's RandAugment.

Axes: (H, W) pixels.
"""

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from a2mim.datasets.transforms.global_generators import seeded_globally
from a2mim.registry import TRANSFORMS

# Uncovered corners get the mean colour of ImageNet; timm's recipes pass the same. The published RSB
# recipes have red and blue exchanged, a left-over of images in BGR order.
FILL = (124, 116, 104)


@TRANSFORMS.register_module()
class TimmAugment:
    """Random colour and geometric operations by a policy string of timm.

    Args:
        policy: For instance 'rand-m6-mstd0.5-inc1': magnitude 6 of 10 with a standard deviation
            of 0.5, operations that grow stronger with the magnitude.

    Shape:
        image: (3, H, W), uint8.
        returns: the same.

    Raises:
        ValueError: If the policy is not one of timm's RandAugment, or the image is not RGB.

    Reference:
        Cubuk et al., RandAugment, NeurIPS 2020 (https://arxiv.org/abs/1909.13719).
    """

    def __init__(self, policy: str) -> None:
        hparams = {'img_mean': FILL, 'interpolation': Image.Resampling.BICUBIC}
        try:
            self.augment = rand_augment_transform(policy, hparams)
        except (AssertionError, ValueError, KeyError) as error:
            raise ValueError(
                f'policy={policy!r} is not a RandAugment policy of timm; '
                "an example is 'rand-m6-mstd0.5-inc1'"
            ) from error

        for operation in self.augment.ops:
            if operation.name.startswith('Posterize'):
                operation.aug_fn = posterize

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Apply the policy."""
        if image.shape[0] != 3:
            raise ValueError(
                f'TimmAugment needs RGB images, got {image.shape[0]} channels; '
                'leave it out of the pipeline, crops and flips take any number of channels'
            )
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        with seeded_globally(rng):
            picture = self.augment(picture)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def posterize(picture: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keep the highest ``bits`` of every value, 0 to 8.

    timm's operation ends the run at the highest level, which keeps none: Pillow 12 and later
    refuse 0 bits. Earlier ones, which the published runs had, gave a black image.
    """
    if bits == 0:
        return picture.point(lambda _: 0)
    return ImageOps.posterize(picture, bits)
