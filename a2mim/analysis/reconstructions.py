"""Reconstructions of masked images by several networks, their errors, and a figure.

Axes: N images, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import Network, measured_batches
from a2mim.masking import (
    block_grid,
    fill_masked,
    num_masked_patches,
    random_patch_mask,
    upsample_mask,
)

SIDE = 1.3  # inches of a picture


@dataclass(frozen=True)
class MaskSetting:
    """A mask: share of masked blocks, side of a block in pixels, seed."""

    ratio: float
    block_size: int
    seed: int

    def __str__(self) -> str:
        return f'{100 * self.ratio:g} % of {self.block_size} px, seed {self.seed}'

    def mask(self, size: tuple[int, int]) -> Tensor:
        """(1, h, w) for images of ``size``, the same mask as of ``a2mim.inference``."""
        grid = block_grid(size, self.block_size)
        return torch.from_numpy(
            random_patch_mask(grid, self.ratio, np.random.default_rng(self.seed))
        )[None]


@dataclass(frozen=True)
class Reconstruction:
    """Pictures of N images.

    Attributes:
        visible, plain, pasted: uint8 (N, C, H, W): the input with masked blocks in the mean colour;
            the output; the output where masked and the image where visible.
        errors, mean_colour_errors: (N,) mean absolute error over masked pixels, in standard
            deviations of the preprocessor: of the network, and of the image's mean colour.
    """

    visible: Tensor
    plain: Tensor
    pasted: Tensor
    errors: Tensor
    mean_colour_errors: Tensor


def check_reconstructions(networks: Sequence[Network], settings: Sequence[MaskSetting]) -> None:
    """Raise a TypeError or ValueError unless networks and masks fit each other."""
    for network in networks:
        _ = network.pretraining
        if network.image_size != networks[0].image_size:
            raise ValueError(
                f'{network.label} takes images of {network.image_size} pixels, '
                f'{networks[0].label} of {networks[0].image_size}; compare networks of one size'
            )
    for setting in settings:
        if not 0 < setting.ratio < 1:
            raise ValueError(f'mask ratio {setting.ratio:g} must lie between 0 and 1')
        grid = block_grid(networks[0].image_size, setting.block_size)
        if num_masked_patches(grid, setting.ratio) == grid[0] * grid[1]:
            raise ValueError(
                f'mask ratio {setting.ratio:g} masks all {grid[0]}×{grid[1]} blocks of '
                f'{setting.block_size} pixels; give smaller blocks or a smaller ratio'
            )


def reconstruct_images(
    network: Network,
    images: AnalysisImages,
    setting: MaskSetting,
    batch_size: int = 64,
    folder: Path | None = None,
) -> Reconstruction:
    """Reconstruct all images under one mask."""
    measure = partial(_pictures, network, setting)
    found = measured_batches(
        network, images, measure, folder=folder, batch_size=batch_size, **asdict(setting)
    )
    parts = [part for _, part in found]
    names = [field.name for field in fields(Reconstruction)]
    return Reconstruction(
        **{name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in names}
    )


def reconstruction_rows(
    networks: Sequence[Network],
    images: AnalysisImages,
    settings: Sequence[MaskSetting],
    found: Sequence[Sequence[Reconstruction]],
) -> list[dict[str, object]]:
    """A row for each network, setting and image; ``found`` is by setting, then by network."""
    return [
        dict(
            network=network.label,
            ratio=setting.ratio,
            block_size=setting.block_size,
            seed=setting.seed,
            image=name,
            l1=float(result.errors[index]),
            l1_of_mean_colour=float(result.mean_colour_errors[index]),
        )
        for setting, results in zip(settings, found, strict=True)
        for network, result in zip(networks, results, strict=True)
        for index, name in enumerate(images.names)
    ]


@torch.no_grad()
def _pictures(
    network: Network, setting: MaskSetting, batch: Tensor, _which: range
) -> dict[str, np.ndarray]:
    picture = network.preprocessor.denormalize
    mask = setting.mask(network.image_size).to(batch).expand(len(batch), -1, -1)
    output = network.pretraining.predict(batch, mask)['reconstruction']
    masked = upsample_mask(mask, network.image_size).unsqueeze(1)
    # SimMIM's input is the whole image: masked blocks are shown in the same way for all methods.
    filled = fill_masked(batch, mask)
    found = Reconstruction(
        visible=picture(filled),
        plain=picture(output),
        pasted=picture(torch.where(masked > 0, output, batch)),
        errors=_error(output, batch, masked),
        mean_colour_errors=_error(filled, batch, masked),
    )
    return {name: tensor.cpu().numpy() for name, tensor in vars(found).items()}


def _error(output: Tensor, image: Tensor, masked: Tensor) -> Tensor:
    """(N,) mean over the masked values of each image."""
    masked = masked.expand_as(image)
    total = ((output - image).abs() * masked).sum(dim=(1, 2, 3))
    return total / masked.sum(dim=(1, 2, 3))


def reconstruction_grid(
    networks: Sequence[Network],
    images: AnalysisImages,
    settings: Sequence[MaskSetting],
    *,
    pasted: bool = True,
    batch_size: int = 64,
) -> tuple[Figure, list[dict[str, object]]]:
    """Reconstruct and draw; return the figure, and the errors of ``reconstruction_rows``.

    Each mask has a column with the masked images and one for every network; ``pasted`` shows the
    image where it is visible, else the output everywhere.
    """
    check_reconstructions(networks, settings)
    found = [
        [reconstruct_images(network, images, setting, batch_size) for network in networks]
        for setting in settings
    ]
    rows = reconstruction_rows(networks, images, settings, found)
    return draw_grid(networks, images, settings, found, pasted=pasted), rows


def draw_grid(
    networks: Sequence[Network],
    images: AnalysisImages,
    settings: Sequence[MaskSetting],
    found: Sequence[Sequence[Reconstruction]],
    *,
    pasted: bool,
) -> Figure:
    """Draw the results of ``reconstruct_images``, by setting, then by network."""
    columns = [('image', images.pixels(networks[0].image_size))]
    for setting, results in zip(settings, found, strict=True):
        columns.append((_mask_title(setting), results[0].visible))
        for network, result in zip(networks, results, strict=True):
            title = f'{network.label}\nL1 {result.errors.mean():.3f}'
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
    """Draw uint8 (C, H, W); unless C is 3, the first channel in grey."""
    pixels = picture.permute(1, 2, 0).numpy()
    if pixels.shape[2] != 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    axis.imshow(pixels, interpolation='nearest')
    axis.set_axis_off()


def _mask_title(setting: MaskSetting) -> str:
    return f'{100 * setting.ratio:g} % masked,\n{setting.block_size} px, seed {setting.seed}'
