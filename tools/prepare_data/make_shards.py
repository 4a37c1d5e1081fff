"""Copy the images of a folder into WebDataset shards or an LMDB database.

The bytes of the files are copied as they are. With ``--short-side`` JPEG files whose short side is
longer are resized to it, by a bicubic filter with antialiasing, turned upright, and written again
as JPEG of quality 95 with half the resolution of colours (4:2:0); smaller ones and other formats
are copied. The order of the files is random, so that a shard has images of all classes; the same
``--seed`` gives the same order. The new folder appears once it is complete. Until then its files
are in ``OUT.partial-shards``, which is removed if the command is stopped; if it is killed, the next
call empties the folder.
"""

import argparse
import fcntl
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from a2mim.engine.command_line import one_line_errors
from a2mim.errors import BadDataError
from a2mim.options import Parser, usable_cores

if TYPE_CHECKING:
    from a2mim.datasets import ImageFolder

# An LMDB database may take so many times the bytes of the files; unused room is no file. A file of
# low quality grows where it is written again.
ROOM = 16
QUALITY = 95
AT_A_TIME = 64  # images that are resized in parallel


class Sample(NamedTuple):
    """An image on its way: its key with an ending, its bytes and, if there is one, its class."""

    key: str
    data: bytes
    label: int | None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'data/photos data/shards --images-per-shard 5000',
        'data/flowers data/lmdb --format lmdb --with-labels',
        'data/photos data/shards --short-side 320',
    ]
    parser = Parser(__doc__, examples)
    parser.add_argument('root', metavar='DIR', help='folder of images, searched in depth')
    parser.add_argument('out', metavar='OUT', help='folder to make')
    kinds = 'tar files of the WebDataset layout, or an LMDB database'
    parser.add_argument('--format', choices=sorted(WRITERS), default='webdataset', help=kinds)
    parser.add_argument(
        '--images-per-shard',
        type=int,
        default=10_000,
        metavar='N',
        help='images in a tar file; of a database, those written at a time',
    )
    parser.add_argument('--with-labels', action='store_true', help='the folders are the classes')
    parser.add_argument('--seed', type=int, default=0, help='seed of the order')
    parser.add_argument(
        '--short-side',
        type=int,
        metavar='N',
        help='resize JPEG files to a short side of N pixels, never to a longer one: 256 or more '
        'for crops of 224 pixels',
    )
    return parser.parse_args(argv)


def read_samples(
    source: 'ImageFolder', seed: int, short_side: int | None = None
) -> Iterator[Sample]:
    """All images in random order; JPEG files are resized where ``short_side`` is given.

    Raises:
        BadDataError: If a file cannot be read; whether it is an image is only looked at where it
            may be resized.
    """
    import numpy as np
    import torch
    from rich.console import Console
    from rich.progress import track

    order = np.random.default_rng(seed).permutation(len(source)).tolist()
    places = enumerate(track(order, 'copying', console=Console(stderr=True)))
    read = partial(read_sample, source, short_side)
    if short_side is None:
        yield from map(read, places)
        return
    torch.set_num_threads(1)
    with ThreadPoolExecutor(usable_cores()) as pool:
        while batch := list(islice(places, AT_A_TIME)):
            yield from pool.map(read, batch)


def read_sample(source: 'ImageFolder', short_side: int | None, place: tuple[int, int]) -> Sample:
    """The image at ``place``: its number in the new order and its index in the source."""
    from a2mim.datasets.decoding import START, refusal

    number, index = place
    try:
        data = source.content(index)
        if short_side is not None and data.startswith(START):
            data = shrink(data, short_side)
    except (OSError, BadDataError) as error:
        raise BadDataError(
            f'{refusal(error, source.name(index), source.channels)}; repair the file or remove '
            'it (tools/prepare_data/verify_dataset.py finds all such files)'
        ) from error
    return Sample(f'{number:09}{source.suffix(index)}', data, source.label(index))


def shrink(data: bytes, short_side: int) -> bytes:
    """A JPEG file with its short side resized; the file itself if that is no longer.

    Raises:
        BadDataError: If it cannot be decoded.
    """
    from PIL import Image

    from a2mim.datasets.decoding import decode_image
    from a2mim.datasets.transforms import resize

    image = decode_image(data, '.jpg', 3)
    short = min(image.shape[1:])
    if short <= short_side:
        return data
    height, width = (round(side * short_side / short) for side in image.shape[1:])
    image = resize(image, (height, width), 'bicubic')
    pixels = image.permute(1, 2, 0).numpy()
    if (pixels == pixels[..., :1]).all():  # grey
        pixels = pixels[..., 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'JPEG', quality=QUALITY)
    return file.getvalue()


def write_tar_files(
    samples: Iterable[Sample], folder: Path, source: 'ImageFolder', images_per_shard: int
) -> None:
    """Shards of so many images, and their index."""
    from a2mim.datasets.archives import write_index

    try:
        from webdataset import TarWriter
    except ImportError as error:
        raise ImportError("webdataset is missing: run pip install 'a2mim[shards]'") from error
    writer = None
    for number, (key, data, label) in enumerate(samples):
        if number % images_per_shard == 0:
            if writer:
                writer.close()
            path = folder / f'{number // images_per_shard:06}.tar'
            writer = TarWriter(str(path), encoder=False, mtime=0)
        stem, suffix = os.path.splitext(key)
        note = {} if label is None else {'cls': str(label).encode()}
        writer.write({'__key__': stem, suffix[1:]: data, **note})
    writer.close()
    write_index(folder, source.classes)


def write_database(
    samples: Iterable[Sample], folder: Path, source: 'ImageFolder', images_per_shard: int
) -> None:
    """One database, written so many images at a time, and the list of its keys."""
    from a2mim.datasets.archives import CLASSES, KEYS

    try:
        import lmdb
    except ImportError as error:
        raise ImportError("lmdb is missing: run pip install 'a2mim[shards]'") from error
    sizes = (os.path.getsize(source.name(index)) for index in range(len(source)))
    room = ROOM * sum(sizes) + 2**24 + 2**13 * len(source)
    lines = []
    with lmdb.open(str(folder), map_size=room, lock=False) as database:
        samples = iter(samples)
        while batch := list(islice(samples, images_per_shard)):
            with database.begin(write=True) as transaction:
                for key, data, label in batch:
                    transaction.put(key.encode(), data)
                    lines.append(key if label is None else f'{key} {label}')
    (folder / KEYS).write_text('\n'.join(lines) + '\n', encoding='utf-8')
    if source.classes:
        (folder / CLASSES).write_bytes(b''.join(os.fsencode(f'{x}\n') for x in source.classes))


WRITERS: 'dict[str, Callable[[Iterable[Sample], Path, ImageFolder, int], None]]' = {
    'webdataset': write_tar_files,
    'lmdb': write_database,
}


def claim(folder: Path) -> int:
    """Make ``folder`` or empty it, unless another call writes there; its descriptor has the lock.

    Raises:
        FileExistsError: If another call does, or it is not a folder that a call has left.
    """
    from a2mim.datasets.archives import CLASSES, ENTRIES, KEYS, SUMMARY

    # What a call writes.
    own = ('*.tar', 'data.mdb', 'lock.mdb', KEYS, CLASSES, ENTRIES, SUMMARY, '*.partial')
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileExistsError(
            f'another call writes {folder}: wait for its end or give another OUT'
        ) from error
    foreign = [path.name for path in folder.iterdir() if not any(map(path.match, own))]
    if foreign:
        raise FileExistsError(
            f'{folder} holds {foreign[0]}, which this tool does not write; remove the folder'
        )
    for path in folder.iterdir():
        path.unlink()
    return handle


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    from a2mim.datasets import ImageFolder
    from a2mim.engine.signals import ending_on_signals

    out = Path(args.out)
    if args.images_per_shard < 1:
        raise ValueError(f'--images-per-shard {args.images_per_shard} must be at least 1')
    if args.short_side is not None and args.short_side < 1:
        raise ValueError(f'--short-side {args.short_side} must be at least 1 pixel')
    if out.exists():
        raise FileExistsError(f'{out} is there already; remove it or give another name')
    source = ImageFolder(args.root, with_labels=args.with_labels)
    partial = out.with_name(f'{out.name}.partial-shards')
    with ending_on_signals():
        handle = claim(partial)
        try:
            samples = read_samples(source, args.seed, args.short_side)
            WRITERS[args.format](samples, partial, source, args.images_per_shard)
            partial.rename(out)
        except BaseException:
            shutil.rmtree(partial)
            raise
        finally:
            os.close(handle)
    print(f'{out}: {len(source)} images')


if __name__ == '__main__':
    with one_line_errors():
        main()
