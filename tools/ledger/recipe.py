"""Read a config: the parts of its docstring, and data derived from its values.

A docstring consists of one sentence, free text, and paragraphs that begin with ``Expect``,
``Deviation:``, ``Published as:`` and ``Run:``.
"""

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path

from a2mim.weights.config_files import read_config
from a2mim.weights.released import is_recipe

STARTERS = re.compile(r'^(?=(?:Expect|Deviation:|Published as:|Run:) )', re.MULTILINE)
EXPECTATION = re.compile(
    r'Expect (?P<value>[\d.]+) (?P<metric>[\w-]+) (?:after|from) (?P<recipe>.+?) '
    r'\((?P<source>[^()]+)\)\.'
)
# Number of training images, to count optimiser steps. Source: the descriptions of the data sets.
NUM_IMAGES = {
    'ImageNet-1K': 1_281_167,
    'ImageNet-100': 126_689,
    'CIFAR-10': 50_000,
    'CIFAR-100': 50_000,
    'STL-10': 5_000,
}


@dataclass(frozen=True)
class Expectation:
    """A published number: value, metric, the other config that it needs, and source."""

    value: str
    metric: str
    recipe: str
    source: str


@dataclass(frozen=True)
class Recipe:
    """A config as a table row.

    Attributes:
        path: Path of the file, relative to the repository, with slashes.
        title: The first sentence of its docstring, without the full stop.
        expectations: Published numbers, in docstring order.
        deviations: Differences from the published config.
        model: timm's name.
        dataset: Name of the training data.
        epochs: Training epochs; ``'auto'`` where the number of images decides.
        image_size: Side, or height and width, of a training image in pixels, as text.
        batch: Images per optimiser step.
        steps: Optimiser steps of the whole run; None where the number of images is not known.
    """

    path: str
    title: str
    expectations: tuple[Expectation, ...]
    deviations: tuple[str, ...]
    model: str
    dataset: str
    epochs: int | str
    image_size: str
    batch: int
    steps: int | None

    @property
    def name(self) -> str:
        """The file name without its suffix."""
        return Path(self.path).stem

    @property
    def pretrains(self) -> bool:
        """Whether it is a pre-training config."""
        return 'pre-training' in self.title.lower()


def read_recipe(file: Path, root: Path) -> Recipe:
    """Read one config below the repository ``root``.

    Raises:
        ValueError: If its docstring lacks the first sentence or the ``Run:`` line.
    """
    path = file.relative_to(root).as_posix()
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or ''
    head, *paragraphs = STARTERS.split(docstring)
    parts = [_one_line(paragraph) for paragraph in paragraphs]
    if not head.strip() or not any(part.startswith('Run: ') for part in parts):
        raise ValueError(f'{path} needs a docstring: a sentence first and "Run: COMMAND" last')
    expectations = [_expectation(part, path) for part in parts if part.startswith('Expect ')]
    config = read_config(file)
    dataset = _dataset(config.train_dataloader.dataset.source)
    epochs, batch = config.train_cfg.max_epochs, config.auto_scale_lr.base_batch_size
    images = NUM_IMAGES.get(dataset)
    return Recipe(
        path=path,
        title=_one_line(head.strip().split('\n\n')[0]).split('. ')[0].rstrip('.'),
        expectations=tuple(expectations),
        deviations=tuple(p[len('Deviation: ') :] for p in parts if p.startswith('Deviation: ')),
        model=config.model.backbone.model_name,
        dataset=dataset,
        epochs=epochs,
        image_size=_image_size(config.train_dataloader.dataset),
        batch=batch,
        steps=images and epochs * math.ceil(images / batch),
    )


def read_recipes(root: Path) -> list[Recipe]:
    """All configs below ``configs/`` that our tools run, sorted by path."""
    files = sorted((root / 'configs').rglob('*.py'))
    return [read_recipe(file, root) for file in files if is_recipe(file)]


def _one_line(text: str) -> str:
    return ' '.join(text.split())


def _expectation(text: str, path: str) -> Expectation:
    match = EXPECTATION.fullmatch(text)
    if match is None:
        raise ValueError(
            f'{path}: {text!r} must read "Expect NUMBER METRIC after RECIPE (SOURCE)."'
        )
    return Expectation(**match.groupdict())


def _dataset(source: dict) -> str:
    """Name of the training data, from the type and folder of the image source."""
    if source['type'] == 'CIFAR':
        return source.get('name', 'cifar10').upper().replace('CIFAR', 'CIFAR-')
    embedded = {'PhotoPatches': 'embedded photographs', 'Digits': 'embedded digits'}
    if source['type'] in embedded:
        return embedded[source['type']]
    place = f'{source.get("list_file", "")} {source.get("root", "")}'.lower()
    names = {
        'imagenet100': 'ImageNet-100',
        'imagenet': 'ImageNet-1K',
        'cifar10': 'CIFAR-10',
        'stl10': 'STL-10',
    }
    return next((name for word, name in names.items() if word in place), 'own images')


def _image_size(dataset: dict) -> str:
    """Training image size in pixels, from the mask or the last transform with a size."""
    steps = dataset.get('pipeline', [dataset])  # images in memory have their size at the top
    sizes = [step['size'] for step in steps if 'size' in step]
    size = dataset['mask']['image_size'] if 'mask' in dataset else (sizes or ['full'])[-1]
    return '×'.join(map(str, size)) if isinstance(size, list | tuple) else str(size)
