"""The mask of a sample as a configurable part.

Axes: (H, W) pixels, (h, w) mask blocks.
"""

import numpy as np
import torch
from torch import Tensor

from a2mim.masking import block_grid, num_hidden_blocks, random_block_mask
from a2mim.registry import TRANSFORMS


@TRANSFORMS.register_module()
class BlockMask:
    """Hide a fixed share of the square blocks of an image, chosen at random.

    Args:
        image_size: Side of the image that leaves the pipeline, or (H, W), in pixels.
        block_size: Side of a block, or (height, width), in pixels; must divide ``image_size``.
        ratio: Share of hidden blocks; their number is rounded up.

    Shape:
        returns: (h, w), uint8, 1 where hidden.

    Raises:
        ValueError: If the blocks do not tile the image, or ``ratio`` is outside [0, 1].
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        block_size: int | tuple[int, int] = 32,
        ratio: float = 0.6,
    ) -> None:
        self.grid = block_grid(image_size, block_size)
        num_hidden_blocks(self.grid, ratio)  # refuses a wrong ratio now, not in a worker
        self.ratio = ratio
        self.image_size = (
            (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        )

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw a mask."""
        return torch.from_numpy(random_block_mask(self.grid, self.ratio, rng))
