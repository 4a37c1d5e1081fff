"""Ordinary JPEG files, decoded as fast as one core can.

Axes: C channels, (H, W) pixels.
"""

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # where Pillow refuses, by default
START, END = b'\xff\xd8\xff', b'\xff\xd9'
# OpenCV's flags for grey at 1/1, 1/2, …; colour is one more bit.
REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}


def decode_jpeg(data: np.ndarray, channels: int, shrink_to: int | None) -> Tensor | None:
    """Decode a grey or colour file, rotated as its EXIF entry says.

    The pixels are those of Pillow: both use libjpeg-turbo. OpenCV needs less time around it.

    Args:
        data: (N,), uint8, the bytes of the file.
        channels: 1 or 3.
        shrink_to: Decode at 1/2, 1/4 or 1/8 as long as the short side keeps this many pixels.

    Returns:
        (C, H, W), uint8; None for files that Pillow should judge, damaged ones among them.
    """
    frame = _frame(memoryview(data))
    # OpenCV fills up a truncated file with grey, where Pillow refuses it.
    if frame is None or END not in data[-32:].tobytes():
        return None
    height, width, components = frame
    # CMYK: OpenCV and Pillow disagree about its colours.
    if components not in (1, 3) or height * width > MAX_PIXELS:
        return None
    wanted = min(height, width) if shrink_to is None else shrink_to
    factor = next(f for f in REDUCTIONS if f == 1 or min(height, width) >= f * wanted)
    colour = cv2.IMREAD_COLOR_RGB if channels == 3 else 0
    try:
        pixels = cv2.imdecode(data, REDUCTIONS[factor] | colour)
    except cv2.error:
        return None
    if pixels is None:
        return None
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1)


def _frame(data: memoryview) -> tuple[int, int, int] | None:
    """Height, width and number of components from the frame header (ITU T.81, B.2.2)."""
    position = len(START) - 1
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            header = data[position + 5 : position + 10]
            return header[0] << 8 | header[1], header[2] << 8 | header[3], header[4]
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    return None
