"""Mean and standard deviation of the pixels below a folder: what ImagePreprocessor takes.

    python tools/prepare_data/compute_stats.py data/photos
    python tools/prepare_data/compute_stats.py data/bands --channels 5

Images are read as in training. Every pixel counts once, so large images weigh more than small
ones. The last lines are for a config and for the command line.
"""

import argparse
import os
from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from a2mim.datasets.archives import open_source
from a2mim.datasets.image_files import StoredImages
from a2mim.engine.command_line import one_line_errors

LEVELS = np.arange(256)


class Histograms(Dataset):
    """The histogram of each channel of an image, and the image's size.

    Args:
        source: The images.
        indices: Those to count.

    Shape:
        returns: (C, 256), int64, and (H, W).
    """

    def __init__(self, source: StoredImages, indices: np.ndarray) -> None:
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, tuple[int, int]]:
        image = self.source.load(int(self.indices[position]))
        counts = [channel.flatten().bincount(minlength=len(LEVELS)) for channel in image]
        return torch.stack(counts), tuple(image.shape[1:])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', metavar='DIR', help='folder of images, or of shards')
    parser.add_argument('--channels', type=int, default=3, help='1, 3 or what the files hold')
    parser.add_argument('--max-images', type=int, metavar='N', help='N images, evenly spread')
    parser.add_argument('--workers', type=int, default=usable_cores(), help='processes that read')
    parser.add_argument('--list-file', metavar='FILE', help='only the images that FILE lists')
    return parser.parse_args(argv)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def count_levels(
    source: StoredImages, max_images: int | None, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Histogram (C, 256) of all images together, and the size (N, 2) of each.

    Raises:
        ValueError: If ``max_images`` is no number of images, or a file cannot be read.
    """
    if max_images is not None and max_images < 1:
        raise ValueError(f'--max-images {max_images} must be at least 1')
    number = min(max_images or len(source), len(source))
    images = Histograms(source, np.linspace(0, len(source) - 1, number, dtype=int))
    loader = DataLoader(images, batch_size=None, num_workers=workers)
    total, sizes = torch.zeros((source.channels, len(LEVELS)), dtype=torch.int64), []
    console = Console(stderr=True)
    for counts, size in track(loader, 'reading', number, console=console):
        total += counts
        sizes.append(size)
    return total.numpy(), np.array(sizes)


def mean_and_std(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both of each channel, (C,), from its histogram; no sum of squares that could cancel.

    Raises:
        ValueError: If a channel has one value only, by which nothing can be divided.
    """
    pixels = counts.sum(axis=1)
    mean = counts @ LEVELS / pixels
    std = np.sqrt((counts * (LEVELS - mean[:, None]) ** 2).sum(axis=1) / pixels)
    if std.min() == 0:
        raise ValueError(
            f'channel {std.argmin()} is {mean[std.argmin()]:g} in every pixel: with a standard '
            'deviation of 0 it cannot be normalised; leave the channel out'
        )
    return mean, std


def as_list(values: np.ndarray) -> str:
    """``[1.23,4.56]``, without blanks that a shell would split."""
    return f'[{",".join(f"{value:.2f}" for value in values)}]'


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    source = open_source(args.root, args.list_file, channels=args.channels)
    counts, sizes = count_levels(source, args.max_images, args.workers)
    mean, std = mean_and_std(counts)
    by_area = sizes[np.argsort(sizes.prod(axis=1), kind='stable')]
    print(f'images    {len(sizes)} of {len(source)}')
    for name, rank in (('smallest', 0), ('median', len(sizes) // 2), ('largest', -1)):
        print(f'{name:<9} {by_area[rank][0]}×{by_area[rank][1]} pixels (height × width)')
    print(f'\ndata_preprocessor=dict(mean={as_list(mean)}, std={as_list(std)})')
    option = 'model.data_preprocessor'
    print(f"--cfg-options '{option}.mean={as_list(mean)}' '{option}.std={as_list(std)}'")


if __name__ == '__main__':
    with one_line_errors():
        main()
