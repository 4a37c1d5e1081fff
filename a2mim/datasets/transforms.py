"""Transforms of images and the random parts of a sample: masks and boxes to erase.

Each transform ``(image, rng) -> image`` draws from the generator of the sample alone.
Axes: C channels, (H, W) pixels, (h, w) mask blocks.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor, nn
from torchvision.transforms import v2

from a2mim.masking import block_grid, num_masked_patches, random_patch_mask
from a2mim.registry import TRANSFORMS
from a2mim.scale import type_name


class Pipeline:
    """A chain of transforms ``(image, rng) -> image``.

    Args:
        configs: One config per transform, applied in order.
    """

    def __init__(self, configs: list[dict]) -> None:
        self.transforms = [TRANSFORMS.build(config) for config in configs]

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Apply all transforms."""
        for transform in self.transforms:
            image = transform(image, rng)
        return image


INTERPOLATIONS = ('bilinear', 'bicubic')


def resize(image: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Resize with antialiasing; pixels differ by at most 1 from Pillow's filter of the same name.

    Types other than uint8 are resized as float32, int32 as float64; integers are rounded, within
    their range.

    Shape:
        image: (C, H, W), of a type of pixels; may be a view.
        returns: ``(C, *size)``, of the same type, in channels-last memory layout.
    """
    dtype = image.dtype
    if dtype == torch.uint8:
        pixels = image
    else:
        pixels = image.to(torch.float64 if dtype == torch.int32 else torch.float32)
    # PyTorch vectorises over the channels of a pixel, but only for a dense tensor.
    pixels = pixels[None].contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(pixels, size, mode=interpolation, antialias=True)[0]
    if dtype in (torch.uint8, torch.float32):
        return resized
    if dtype.is_floating_point:
        return resized.to(dtype)
    limits = torch.iinfo(dtype)
    return resized.round().clamp(limits.min, limits.max).to(dtype)


def check_interpolation(interpolation: str) -> str:
    """Return ``interpolation``, or raise for an unknown name."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f'interpolation={interpolation!r} must be one of {INTERPOLATIONS}')
    return interpolation


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W) from the side of a square or a pair; raises below one pixel."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f'size={size} must be at least one pixel in height and width')
    return height, width


@TRANSFORMS.register_module()
class Resize:
    """Resize the short side to a length, or the image to (H, W).

    Args:
        size: Length of the short side, at a fixed aspect ratio; or (H, W).
        interpolation: 'bilinear' or 'bicubic'.

    Shape:
        image: (C, H, W), of any type of pixels.
        returns: the same with the new (H, W).
    """

    def __init__(self, size: int | tuple[int, int], interpolation: str = 'bicubic') -> None:
        pair = as_pair(size)
        self.size = size if isinstance(size, int) else pair
        self.interpolation = check_interpolation(interpolation)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Resize; ``rng`` is not used."""
        height, width = image.shape[-2:]
        return resize(image, self._target(height, width), self.interpolation)

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.size, int):
            return self.size
        short = min(height, width)
        # The long side is rounded down, as in torchvision.
        return height * self.size // short, width * self.size // short


CROP_TRIALS = 10


@TRANSFORMS.register_module()
class RandomResizedCrop:
    """Crop a random area of random aspect ratio, then resize it.

    Args:
        size: Side of the result, or (H, W), in pixels.
        scale: Range of the crop's share of the image's area.
        ratio: Range of the crop's width over height.
        interpolation: 'bilinear', as in the reference pre-training, or 'bicubic', as in its
            fine-tuning.

    Shape:
        image: (C, H, W), of any type of pixels.
        returns: ``(C, *size)``, of the same type.

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
        rows, columns = image.shape[-2:]
        top, left, height, width = self.box(rows, columns, rng)
        crop = image[:, top : top + height, left : left + width]
        return resize(crop, self.size, self.interpolation)

    def box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw (top, left, height, width) for an image of ``height`` × ``width`` pixels."""
        (least, most), (low, high) = self.scale, self.log_ratio
        for _ in range(CROP_TRIALS):
            # As rng.uniform, in a third of its time.
            area = height * width * (least + (most - least) * rng.random())
            ratio = math.exp(low + (high - low) * rng.random())
            rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                # Fractions, so that equal draws crop the same part of an image that is decoded at
                # another size.
                top = int(rng.random() * (height - rows + 1))
                left = int(rng.random() * (width - columns + 1))
                return top, left, rows, columns
        return self._largest_box(height, width)

    def _largest_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The central crop, for images so narrow or so small that no trial fits."""
        rows = min(height, round(width / self.ratio[0]))
        columns = min(width, round(height * self.ratio[1]))
        return (height - rows) // 2, (width - columns) // 2, rows, columns


@TRANSFORMS.register_module()
class CenterCrop:
    """Cut out the centre, with the rounding of torchvision.

    Args:
        size: Side of a square, or (H, W), in pixels.

    Shape:
        image: (C, H, W).
        returns: ``(C, *size)``, a view.

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
                f'{image.shape[-2]}×{image.shape[-1]}; put a Resize to at least that size before'
            )
        top, left = round(spare_rows / 2), round(spare_columns / 2)
        return image[:, top : top + height, left : left + width]


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirror an image horizontally with probability ``p``.

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


ERASING_TRIALS = 10
AREA = (0.02, 1 / 3)  # share of the image
LOG_RATIO = (math.log(0.3), -math.log(0.3))  # height over width


@TRANSFORMS.register_module()
class RandomErasing:
    """Draw a box with probability ``p``; ``ImagePreprocessor`` fills it with noise.

    The noise comes after normalisation, on the training device, so that a worker returns four
    numbers.

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
        """The first of ``ERASING_TRIALS`` boxes that is smaller than the image, or None."""
        height, width = self.image_size
        for _ in range(ERASING_TRIALS):
            area = height * width * rng.uniform(*AREA)
            ratio = math.exp(rng.uniform(*LOG_RATIO))
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if rows < height and columns < width:
                top = int(rng.integers(height - rows + 1))
                left = int(rng.integers(width - columns + 1))
                return top, left, rows, columns
        return None


@TRANSFORMS.register_module(name=['PatchMask', 'BlockMask'])
class PatchMask:
    """Mask a fixed share of the patches of an image, chosen at random, as in SimMIM.

    Args:
        image_size: Side of the output of the pipeline, or (H, W), in pixels.
        block_size: Side of a patch, or (height, width), in pixels; must divide ``image_size``.
        ratio: Share of masked patches; their number is rounded up.

    Shape:
        returns: (h, w), uint8, 1 where masked.

    Raises:
        ValueError: If the patches do not tile the image, or ``ratio`` is outside [0, 1].
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        block_size: int | tuple[int, int] = 32,
        ratio: float = 0.6,
    ) -> None:
        self.grid = block_grid(image_size, block_size)
        num_masked_patches(self.grid, ratio)  # checks the ratio here, not in a worker
        self.ratio = ratio
        self.image_size = as_pair(image_size)

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw a mask."""
        return torch.from_numpy(random_patch_mask(self.grid, self.ratio, rng))


@contextmanager
def seeded_globally(rng: np.random.Generator) -> Iterator[None]:
    """Seed Python's, numpy's and torch's generators from ``rng``; restore them on exit.

    timm and torchvision draw from these generators.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # of the CPU only
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


# Uncovered corners get the mean colour of ImageNet, as in timm. The RSB configs of the reference
# implementation swap red and blue, from images in BGR order.
FILL = (124, 116, 104)


@TRANSFORMS.register_module()
class TimmAugment:
    """Random colour and geometric operations by a policy string of timm.

    Args:
        policy: For instance 'rand-m6-mstd0.5-inc1': magnitude 6 of 10 with a standard deviation
            of 0.5, operations whose strength grows with the magnitude.

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
        require_8_bits(image, 'TimmAugment')
        if image.shape[0] != 3:
            raise ValueError(
                f'TimmAugment needs RGB images, got {image.shape[0]} channels; '
                'leave it out of the pipeline; crops and flips take any number of channels'
            )
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        with seeded_globally(rng):
            picture = self.augment(picture)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def require_8_bits(image: Tensor, name: str) -> None:
    """Raise a ValueError unless the image, (C, H, W), is uint8."""
    if image.dtype != torch.uint8:
        raise ValueError(
            f'{name} needs uint8 images, and these are {type_name(image)}; leave it out of the '
            'pipeline; crops, resizes and flips take any type'
        )


def posterize(picture: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keep the highest ``bits`` of every value, 0 to 8.

    Replaces timm's operation: at the highest level it keeps 0 bits, which Pillow 12 and later
    refuse and earlier versions turn into a black image.
    """
    if bits == 0:
        return picture.point(lambda _: 0)
    return ImageOps.posterize(picture, bits)


# Transforms that move pixels and leave their values alone.
GEOMETRIC = (
    v2.RandomHorizontalFlip,
    v2.RandomVerticalFlip,
    v2.CenterCrop,
    v2.RandomCrop,
    v2.Pad,
)


@TRANSFORMS.register_module()
class TorchvisionTransform:
    """A transform of ``torchvision.transforms.v2`` that draws from the sample's generator.

    Args:
        name: Name of the class, such as 'ColorJitter'.
        **options: Its arguments.

    Shape:
        image: (C, H, W), uint8; torchvision's colour operations need 1 or 3 channels.
        returns: the output of the transform.

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
        if not isinstance(self.transform, GEOMETRIC):
            require_8_bits(image, f'{type(self.transform).__name__} of torchvision')
        with seeded_globally(rng):
            return self.transform(image)
