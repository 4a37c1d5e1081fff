"""Reconstructions as a figure: a row for each image, columns for masks and networks.

Axes: N images, C channels, (H, W) pixels.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.reconstructions import (
    MaskSetting,
    Reconstruction,
    check_reconstructions,
    reconstruct_images,
    reconstruction_rows,
)
from a2mim.analysis.subject import Subject

SIDE = 1.3  # inches of a picture


def reconstruction_grid(
    subjects: Sequence[Subject],
    images: AnalysisImages,
    settings: Sequence[MaskSetting],
    *,
    pasted: bool = True,
    batch_size: int = 64,
) -> tuple[Figure, list[dict[str, object]]]:
    """The figure, and the errors that ``reconstruction_rows`` makes.

    Args:
        subjects: Networks with a decoder, of one image size.
        images: To reconstruct; each is a row.
        settings: Masks; each has a column of what is visible and one for every network.
        pasted: Show the image itself where it is visible, else the output everywhere.
        batch_size: Images in a forward pass.

    Raises:
        TypeError, ValueError: See ``check_reconstructions``.
    """
    check_reconstructions(subjects, settings)
    found = [
        [reconstruct_images(subject, images, setting, batch_size) for subject in subjects]
        for setting in settings
    ]
    rows = reconstruction_rows(subjects, images, settings, found)
    return draw_grid(subjects, images, settings, found, pasted=pasted), rows


def draw_grid(
    subjects: Sequence[Subject],
    images: AnalysisImages,
    settings: Sequence[MaskSetting],
    found: Sequence[Sequence[Reconstruction]],
    *,
    pasted: bool,
) -> Figure:
    """Draw what ``reconstruct_images`` found, by setting, then by network."""
    columns = [('image', images.pixels(subjects[0].image_size))]
    for setting, results in zip(settings, found, strict=True):
        columns.append((_mask_title(setting), results[0].visible))
        for subject, result in zip(subjects, results, strict=True):
            title = f'{subject.label}\nL1 {result.errors.mean():.3f}'
            columns.append((title, result.pasted if pasted else result.plain))
    number = len(images)
    figure = Figure(figsize=(SIDE * len(columns), SIDE * number + 0.6), layout='constrained')
    axes = figure.subplots(number, len(columns), squeeze=False)
    for column, (title, pictures) in zip(axes.T, columns, strict=True):
        column[0].set_title(title, fontsize=7)
        for axis, picture in zip(column, pictures, strict=True):
            show(axis, picture)
    return figure


def show(axis: Axes, picture: Tensor) -> None:
    """Draw uint8 (C, H, W); of other channels than three, the first is shown as grey."""
    pixels = picture.permute(1, 2, 0).numpy()
    if pixels.shape[2] != 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    axis.imshow(pixels, interpolation='nearest')
    axis.set_axis_off()


def _mask_title(setting: MaskSetting) -> str:
    return f'{100 * setting.ratio:g} % hidden,\n{setting.block_size} px, seed {setting.seed}'
