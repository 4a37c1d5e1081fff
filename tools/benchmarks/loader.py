"""How fast one core turns JPEG files into samples, against the classic path.

Ours is ``MaskedImageDataset`` as training uses it: one uint8 image and a block mask. The classic
path decodes, crops and resizes with Pillow, makes floats, normalises, and fills the masked blocks
in the worker: two float images. Both take the same files, crops, flips and masks in turn, in one
process with one thread, so that their ratio does not depend on what else the machine does.

    python tools/benchmarks/loader.py
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from operator import truediv
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms import functional as TF

from a2mim.datasets import (
    MaskedImageDataset,
    RandomResizedCrop,
    SampleKey,
    channels_last_collate,
)

SIZE, SCALE = 224, (0.8, 1.0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTOS = (
    ('skimage', 'data/astronaut.png'), ('skimage', 'data/chelsea.png'),
    ('skimage', 'data/coffee.png'), ('skimage', 'data/motorcycle_left.png'),
    ('skimage', 'data/rocket.jpg'), ('skimage', 'data/hubble_deep_field.jpg'),
    ('sklearn', 'datasets/images/china.jpg'), ('sklearn', 'datasets/images/flower.jpg'),
)  # fmt: skip


def write_files(folder: Path, enlarge: int, count: int) -> None:
    """Write ``count`` JPEG files of 500 × 375 pixels times ``enlarge``, with sensor noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        package, name = PHOTOS[number % len(PHOTOS)]
        with Image.open(resources.files(package) / name, formats=('PNG', 'JPEG')) as file:
            photo = file.convert('RGB')
        side = rng.uniform(0.7, 1) * min(photo.width / 4, photo.height / 3)
        left = rng.uniform(0, photo.width - 4 * side)
        top = rng.uniform(0, photo.height - 3 * side)
        box = (left, top, left + 4 * side, top + 3 * side)
        pixels = np.asarray(photo.resize((500, 375), Image.Resampling.BICUBIC, box=box))
        noisy = (pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(noisy).resize((500 * enlarge, 375 * enlarge))
        picture.save(folder / f'{number:03}.jpg', quality=int(rng.integers(85, 96)))


def build_ours(folder: Path, shrink_to: int | None) -> MaskedImageDataset:
    """The data set of the ResNet-50 pre-training of the paper."""
    return MaskedImageDataset(
        source={'type': 'ImageFolder', 'root': str(folder), 'shrink_to': shrink_to},
        pipeline=[
            {'type': 'RandomResizedCrop', 'size': SIZE, 'scale': SCALE},
            {'type': 'RandomFlip'},
        ],
        mask={'type': 'BlockMask', 'image_size': SIZE, 'block_size': 32},
    )


def classic_sample(path: Path, key: SampleKey, ours: MaskedImageDataset) -> tuple[Tensor, ...]:
    """Filled image, image and mask as the classic path makes them, with the draws of ours."""
    rng = key.generator(ours.seed)
    mask = ours.mask(rng)
    with Image.open(path, formats=('JPEG',)) as file:
        picture = file.convert('RGB')
    box = RandomResizedCrop(SIZE, SCALE).box(picture.height, picture.width, rng)
    picture = TF.resized_crop(picture, *box, [SIZE, SIZE])
    if rng.random() < 0.5:
        picture = TF.hflip(picture)
    image = TF.normalize(TF.to_tensor(picture), MEAN, STD)
    masked = mask.repeat_interleave(32, 0).repeat_interleave(32, 1).bool()
    filled = image.clone()
    for channel in filled:
        channel[masked] = channel.mean()
    return filled, image, mask


def timed_batch(
    sample: Callable[[int, int], object], collate: Callable[[list], object], epoch: int, count: int
) -> tuple[list[float], float]:
    """Processor time of every sample, and of collation per sample, in milliseconds."""
    times, samples = [], []
    for index in range(count):
        start = time.process_time()
        samples.append(sample(index, epoch))
        times.append(1000 * (time.process_time() - start))
    start = time.process_time()
    collate(samples)
    return times, 1000 * (time.process_time() - start) / count


def compare(folder: Path, shrink_to: int | None, rounds: int) -> str:
    """One row of the table: the two paths take turns, a batch of all files each."""
    dataset = build_ours(folder, shrink_to)
    paths = sorted(folder.iterdir())

    def ours(index: int, epoch: int) -> dict[str, Tensor]:
        return dataset[SampleKey(index, epoch)]

    def classic(index: int, epoch: int) -> tuple[Tensor, ...]:
        return classic_sample(paths[index], SampleKey(index, epoch), dataset)

    collate = {ours: channels_last_collate, classic: default_collate}
    samples, batches = {ours: [], classic: []}, {ours: [], classic: []}
    for epoch in range(rounds):
        for path in (ours, classic) if epoch % 2 else (classic, ours):
            times, collation = timed_batch(path, collate[path], epoch, len(paths))
            samples[path] += times
            batches[path] += [one + collation for one in times]
    apart = torch.stack(
        [pixel_difference(ours(index, 0), classic(index, 0)) for index in range(len(paths))]
    )
    columns = [
        f'{statistics.median(times[ours]):.2f} | {statistics.median(times[classic]):.2f} | '
        f'**{statistics.median(map(truediv, times[classic], times[ours])):.2f}**'
        for times in (samples, batches)
    ]
    return f'{" | ".join(columns)} | {apart.mean():.4f} / {apart.max():.0f}'


def pixel_difference(ours: dict[str, Tensor], classic: tuple[Tensor, ...]) -> Tensor:
    """Absolute difference of the two images before masking."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((classic[1] * std + mean) * 255 - ours['image']).abs()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--files', type=int, default=32, help='files per size, which make one batch'
    )
    parser.add_argument('--rounds', type=int, default=5, help='passes over the files')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(
        f'{platform.processor() or platform.machine()}, Python {platform.python_version()}, '
        f'torch {torch.__version__}, torchvision {torchvision.__version__}, '
        f'OpenCV {cv2.__version__}, Pillow {PIL.__version__}; one thread, processor time\n'
    )
    print('| files | decoding | sample: ours, ms | classic | ratio | with collation: ours, ms | '
          'classic | ratio | mean / max pixel difference |')  # fmt: skip
    print('|---|---|---:|---:|---:|---:|---:|---:|---:|')
    for enlarge, shrink_to in ((1, None), (3, None), (3, 256)):
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), enlarge, args.files)
            size = statistics.mean(path.stat().st_size for path in Path(folder).iterdir())
            row = compare(Path(folder), shrink_to, args.rounds)
        files = f'{500 * enlarge}×{375 * enlarge}, {size / 1024:.0f} KB'
        print(f'| {files} | {f"shrink_to={shrink_to}" if shrink_to else "full"} | {row} |')


if __name__ == '__main__':
    main()
