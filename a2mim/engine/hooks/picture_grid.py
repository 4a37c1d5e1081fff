"""Rows of images with a caption over each row, as one picture.

Axes: N images of a row, C channels, (H, W) pixels.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

GAP = 4  # pixels between images
CAPTION = 16  # pixels of the strip above a row
LEAST_SIDE = 96  # images smaller than this are enlarged by whole factors
PAPER = 255


def picture_grid(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draw ``{caption: images}`` as one picture, a row per entry.

    Args:
        rows: uint8 arrays (N, C, H, W), all of one shape. Three channels are taken as RGB, fewer
            as grey (the first), and of more the first three are shown.

    Returns:
        uint8 array (height, width, 3).
    """
    strips = []
    for caption, images in rows.items():
        tiles = [_framed(_enlarged(_rgb(image))) for image in images]
        row = np.concatenate(tiles, axis=1)
        strips += [_caption(caption, row.shape[1]), row]
    return np.concatenate(strips, axis=0)


def _rgb(image: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W, 3)."""
    channels = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
    return channels.transpose(1, 2, 0)


def _enlarged(image: np.ndarray) -> np.ndarray:
    factor = -(-LEAST_SIDE // min(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _framed(image: np.ndarray) -> np.ndarray:
    margin = ((GAP // 2, GAP // 2), (GAP // 2, GAP // 2), (0, 0))
    return np.pad(image, margin, constant_values=PAPER)


def _caption(text: str, width: int) -> np.ndarray:
    strip = Image.new('RGB', (width, CAPTION), (PAPER,) * 3)
    ImageDraw.Draw(strip).text((GAP, 2), text, fill=(0, 0, 0))
    return np.asarray(strip)
