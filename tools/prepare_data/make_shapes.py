"""Write a small data set for detection or segmentation: shapes on real photographs.

    python tools/prepare_data/make_shapes.py data/shapes_coco --format coco --images 200 --val 50
    python tools/prepare_data/make_shapes.py data/shapes_ade --format ade --images 200 --val 50

Layouts are those of COCO 2017 and ADE20K. The photographs come with scikit-image; no pixel of a
validation image is in a training image. Every image has three shapes that do not touch, of random
place, size, rotation, colour and texture; an image and the next one show each class once. With
``--colours class`` the colour varies around one of the class, which a network learns in minutes
where the outline alone takes hours. The same options give the same files. In ADE's format, class 1
is the photograph, and 0, which is no class, marks the pixels that an edge cuts.

Axes: V vertices, (H, W) pixels.
"""

import argparse
import colorsys
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from a2mim.datasets import PhotoPatches
from a2mim.engine.command_line import one_line_errors

FINENESS = 8  # Subpixels along an edge of a pixel: how exactly an edge is drawn.
PATCH = 96  # Pixels of a photograph that become the background of an image.


def regular(corners: int, *radii: float) -> np.ndarray:
    """Outline (V, 2) around the origin; the radii take turns."""
    angle = 2 * np.pi * np.arange(corners) / corners
    radius = np.resize(radii, corners)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


CROSS = [(1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3)]
ARROW = [(0, -5), (4, 0), (1.5, 0), (1.5, 5), (-1.5, 5), (-1.5, 0), (-4, 0)]
# Outlines within the unit circle.
SHAPES = {
    'circle': regular(48, 1),
    'square': regular(4, 1),
    'triangle': regular(3, 1),
    'star': regular(10, 1, 0.4),
    'cross': np.array(CROSS + [(-x, -y) for x, y in CROSS]) / 10**0.5,
    'arrow': np.array(ARROW) / 27.25**0.5,
}
NAMES = tuple(SHAPES)
PER_IMAGE = len(NAMES) // 2
CLASSES = ('photograph', *NAMES)
# With one colour a class: hues as far apart as possible, as pixel values.
HUES = {
    name: 255 * np.array(colorsys.hsv_to_rgb(index / len(NAMES), 0.8, 0.9))
    for index, name in enumerate(NAMES)
}
SPREAD = 30  # Grey levels by which a colour differs from that of its class.


@dataclass
class Shape:
    """A shape in an image.

    Args:
        name: Its class.
        outline: (V, 2), x and y in pixels from the top left corner of the image.
        coverage: (H, W), the part of each pixel inside the outline, in [0, 1].
    """

    name: str
    outline: np.ndarray
    coverage: np.ndarray


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', metavar='DIR', help='a new or empty folder')
    parser.add_argument('--format', choices=[*WRITERS], required=True)
    parser.add_argument('--images', type=int, default=200, help='images for training')
    parser.add_argument('--val', type=int, default=50, help='images for validation')
    parser.add_argument('--size', type=int, default=128, help='side of an image in pixels')
    parser.add_argument(
        '--colours', choices=('random', 'class'), default='random', help='of the shapes'
    )
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args(argv)


def scenes(
    split: str, number: int, size: int, seed: int, *, class_colours: bool = False
) -> Iterator[tuple[np.ndarray, list[Shape]]]:
    """Image after image, (size, size, 3) uint8, with the shapes in it.

    Args:
        split: 'train' or 'val', the part of the photographs.
        number: How many.
        size: Side of an image in pixels.
        seed: An image depends on it, on the split, on its number and on ``class_colours`` only.
        class_colours: Paint each class in a colour of its own.
    """
    photos = PhotoPatches(split, patch_size=PATCH)
    for index in range(number):
        key = (seed, ('train', 'val').index(split))
        # A pair of images shares the order of the classes: the first has one half, the second
        # the other.
        pair = np.random.default_rng((*key, 0, index // 2)).permutation(len(NAMES))
        names = [NAMES[i] for i in pair[(index % 2) * PER_IMAGE :][:PER_IMAGE]]
        rng = np.random.default_rng((*key, 1, index))
        yield scene(names, photos, size, rng, class_colours=class_colours)


def scene(
    names: Sequence[str],
    photos: PhotoPatches,
    size: int,
    rng: np.random.Generator,
    *,
    class_colours: bool = False,
) -> tuple[np.ndarray, list[Shape]]:
    """An image with a shape of each name, each in a quarter of its own."""
    image = texture(photos, size, rng)
    shapes = []
    for name, quarter in zip(names, rng.permutation(4), strict=False):
        radius = rng.uniform(0.1, 0.22) * size
        corner = np.array(divmod(quarter, 2)) * size / 2
        center = corner + rng.uniform(radius, size / 2 - radius, size=2)
        outline = (SHAPES[name] * radius @ rotation(rng.uniform(0, 2 * np.pi)) + center).round(2)
        shapes.append(Shape(name, outline, coverage(outline, size)))
        colour = rng.uniform(0, 255, size=3)
        if class_colours:
            # The same draw, so that nothing else in the image depends on the option.
            colour = HUES[name] + (colour / 127.5 - 1) * SPREAD
        surface = 0.7 * colour + 0.3 * texture(photos, size, rng)
        alpha = shapes[-1].coverage[..., None]
        image = alpha * surface + (1 - alpha) * image
    return image.round().clip(0, 255).astype(np.uint8), shapes


def texture(photos: PhotoPatches, size: int, rng: np.random.Generator) -> np.ndarray:
    """A piece of a photograph, (size, size, 3), in [0, 255]."""
    patch = photos.load(int(rng.integers(len(photos)))).permute(1, 2, 0).numpy()
    piece = Image.fromarray(patch).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(piece, dtype=float)


def rotation(angle: float) -> np.ndarray:
    """Matrix (2, 2) that turns points (V, 2) from the right."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def coverage(outline: np.ndarray, size: int) -> np.ndarray:
    """The part of each pixel, (size, size), that is inside the outline."""
    fine = Image.new('L', (size * FINENESS, size * FINENESS))
    # Pillow's coordinates are those of the centres of pixels.
    ImageDraw.Draw(fine).polygon([*(outline * FINENESS - 0.5).ravel()], fill=1)
    blocks = np.asarray(fine, dtype=float).reshape(size, FINENESS, size, FINENESS)
    return blocks.mean(axis=(1, 3))


def write_coco(root: Path, split: str, images: Iterator[tuple[np.ndarray, list[Shape]]]) -> None:
    """Write ``images`` in the layout of COCO 2017: a polygon, a box and an area per shape."""
    folder = root / f'{split}2017'
    folder.mkdir(parents=True)
    entries, annotations = [], []
    for number, (image, shapes) in enumerate(images, start=1):
        name = f'{number:012d}.jpg'
        save_photo(image, folder / name)
        entries.append(dict(id=number, file_name=name, height=len(image), width=len(image)))
        for shape in shapes:
            entry = dict(id=len(annotations) + 1, image_id=number)
            annotations.append(entry | annotation(shape))
    categories = [
        dict(id=number, name=name, supercategory='shape')
        for number, name in enumerate(NAMES, start=1)
    ]
    content = dict(images=entries, annotations=annotations, categories=categories)
    path = root / 'annotations' / f'instances_{split}2017.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding='utf-8')


def annotation(shape: Shape) -> dict:
    """What COCO's format says of a shape; area and box are those of the polygon."""
    x, y = shape.outline.T
    left, top = shape.outline.min(axis=0)
    width, height = np.ptp(shape.outline, axis=0)
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return dict(
        category_id=NAMES.index(shape.name) + 1,
        segmentation=[[float(value) for value in shape.outline.ravel()]],
        bbox=[round(float(value), 2) for value in (left, top, width, height)],
        area=round(float(area), 2),
        iscrowd=0,
    )


def write_ade(root: Path, split: str, images: Iterator[tuple[np.ndarray, list[Shape]]]) -> None:
    """Write ``images`` in the layout of ADE20K, and the names of the classes from 1 on."""
    part = {'train': 'training', 'val': 'validation'}[split]
    folders = [root / kind / part for kind in ('images', 'annotations')]
    for folder in folders:
        folder.mkdir(parents=True)
    for number, (image, shapes) in enumerate(images, start=1):
        name = f'ADE_{split}_{number:08d}'
        save_photo(image, folders[0] / f'{name}.jpg')
        Image.fromarray(label_map(shapes, len(image))).save(folders[1] / f'{name}.png')
    (root / 'classes.txt').write_text('\n'.join(CLASSES) + '\n', encoding='utf-8')


def label_map(shapes: Sequence[Shape], size: int) -> np.ndarray:
    """Class of each pixel, (size, size) uint8; 0 where an edge cuts it."""
    labels = np.ones((size, size), dtype=np.uint8)
    for shape in shapes:
        labels[shape.coverage > 0] = 0
        labels[shape.coverage == 1] = CLASSES.index(shape.name) + 1
    return labels


def save_photo(image: np.ndarray, path: Path) -> None:
    """Write a JPEG with little loss."""
    Image.fromarray(image).save(path, quality=95)


WRITERS: dict[str, Callable] = {'coco': write_coco, 'ade': write_ade}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line.

    Raises:
        ValueError: If a number is too small, or the folder is not empty.
    """
    args = parse_args(argv)
    for name, least in (('images', 1), ('val', 1), ('size', 32), ('seed', 0)):
        if getattr(args, name) < least:
            raise ValueError(f'--{name} {getattr(args, name)} must be at least {least}')
    root = Path(args.root)
    if root.exists() and any(root.iterdir()):
        raise ValueError(f'{root} is not empty; give a new folder, or remove it')
    for split, number in (('train', args.images), ('val', args.val)):
        colours = args.colours == 'class'
        images = scenes(split, number, args.size, args.seed, class_colours=colours)
        WRITERS[args.format](root, split, images)
    print(f'{root}: {args.images} + {args.val} images, {len(NAMES)} shapes ({", ".join(NAMES)})')


if __name__ == '__main__':
    with one_line_errors():
        main()
