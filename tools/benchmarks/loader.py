"""How fast one core turns JPEG files into samples, against the classic path and the bare decoder.

Ours is ``MaskedImageDataset`` as training uses it: one uint8 image and a block mask. The classic
path decodes, crops and resizes with Pillow, makes floats, normalises, and fills the masked blocks
in the worker: two float images. The floor decodes the files, which are in memory, by simplejpeg and
does nothing else. All take the same files in turn, a batch at a time, in one process with one
thread, and ours and the classic path the same crops, flips and masks, so that their ratios do not
depend on what else the machine does.

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
from typing import Any, TypeVar

import cv2
import numpy as np
import PIL
import simplejpeg
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
from a2mim.datasets.decoding import REDUCTIONS

T = TypeVar('T')

SIZE, SCALE = 224, (0.8, 1.0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTOS = (
    ('skimage', 'data/astronaut.png'), ('skimage', 'data/chelsea.png'),
    ('skimage', 'data/coffee.png'), ('skimage', 'data/motorcycle_left.png'),
    ('skimage', 'data/rocket.jpg'), ('skimage', 'data/hubble_deep_field.jpg'),
    ('sklearn', 'datasets/images/china.jpg'), ('sklearn', 'datasets/images/flower.jpg'),
)  # fmt: skip


# Enlargement, range of JPEG qualities, and shrink_to of each row; ImageNet's files have 110 KB.
USUAL, FINE = (85, 96), (96, 99)
ROWS = ((1, USUAL, None), (1, FINE, None), (3, USUAL, None), (3, USUAL, 256))


def write_files(folder: Path, enlarge: int, count: int, quality: tuple[int, int] = USUAL) -> None:
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
        picture.save(folder / f'{number:03}.jpg', quality=int(rng.integers(*quality)))


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


def bare_decode(data: bytes, shrink_to: int | None) -> np.ndarray:
    """The pixels of a file at the scale at which ours decodes it."""
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    short = min(height, width)
    factor = next(f for f in REDUCTIONS if f == 1 or short >= f * (shrink_to or short))
    return simplejpeg.decode_jpeg(
        data, 'RGB', min_height=-(-height // factor), min_width=-(-width // factor)
    )


def compare(folder: Path, shrink_to: int | None, rounds: int) -> str:
    """One row of the table: the paths take turns, a batch of all files each."""
    dataset = build_ours(folder, shrink_to)
    paths = sorted(folder.iterdir())
    contents = [path.read_bytes() for path in paths]

    def keys(epoch: int) -> list[SampleKey]:
        return [SampleKey(index, epoch) for index in range(len(paths))]

    def ours(epoch: int) -> list:
        return dataset.__getitems__(keys(epoch))  # as DataLoader

    def classic(epoch: int) -> list:
        return [classic_sample(paths[key.index], key, dataset) for key in keys(epoch)]

    def floor(epoch: int) -> None:
        for data in contents:
            bare_decode(data, shrink_to)

    times = {form: [] for form in (ours, classic, floor)}
    whole = {ours: [], classic: []}
    for epoch in range(rounds + 1):
        for form in times if epoch % 2 else reversed(times):
            took, batch = timed(form, epoch)
            times[form].append(took / len(paths))
            if form is not floor:
                collate = channels_last_collate if form is ours else default_collate
                whole[form].append(times[form][-1] + timed(collate, batch)[0] / len(paths))
            del batch
    apart = torch.stack(list(map(pixel_difference, ours(0), classic(0))))
    one, all_, bare = times[ours][1:], whole[ours][1:], times[floor][1:]
    columns = [
        *(f'{statistics.median(values):.2f}' for values in (one, times[classic][1:])),
        f'**{ratio(times[classic][1:], one):.2f}**',
        f'{statistics.median(bare):.2f}',
        f'**{ratio(bare, one):.2f}**',
        f'{ratio(whole[classic][1:], all_):.2f}',
        f'{apart.mean():.4f} / {apart.max():.0f}',
    ]
    return ' | '.join(columns)


def timed(call: Callable[[Any], T], argument: object) -> tuple[float, T]:
    """Processor time of a call in milliseconds, and its result."""
    start = time.process_time()
    result = call(argument)
    return 1000 * (time.process_time() - start), result


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median of the ratios within each round."""
    return statistics.median(map(truediv, numerator, denominator))


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
    parser.add_argument('--rounds', type=int, default=15, help='timed passes over the files')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(
        f'{platform.processor() or platform.machine()}, Python {platform.python_version()}, '
        f'torch {torch.__version__}, torchvision {torchvision.__version__}, '
        f'simplejpeg {simplejpeg.__version__}, Pillow {PIL.__version__}; one thread, '
        'processor time\n'
    )
    print(
        '| files | decoding | sample: ours, ms | classic | ratio | bare decode, ms | its share of '
        'ours | ratio with collation | mean / max pixel difference |'
    )
    print('|---|---|---:|---:|---:|---:|---:|---:|---:|')
    for enlarge, quality, shrink_to in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), enlarge, args.files, quality)
            size = statistics.mean(path.stat().st_size for path in Path(folder).iterdir())
            row = compare(Path(folder), shrink_to, args.rounds)
        files = f'{500 * enlarge}×{375 * enlarge}, {size / 1024:.0f} KB'
        print(f'| {files} | {f"shrink_to={shrink_to}" if shrink_to else "full"} | {row} |')


if __name__ == '__main__':
    main()
