"""What a classifier says of each image: gathered, as rows, as pictures, averaged over two views.

Axes: N images, K classes, C channels, (H, W) pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from a2mim.evaluation.metrics import GatheredMetric
from a2mim.interfaces import Algorithm

TOP = 5  # classes of an image in a row
LINE = 14  # pixels of a line below a picture
WIDEST = 256  # pixels of a picture at least


class Predictions(GatheredMetric):
    """Keeps the scores of every image, in the order of the data set; it measures nothing.

    Attributes:
        rows: After the evaluation a dict for each image: ``image`` (its name), ``label`` (a class
            index, several, or None), ``pred_label``, ``pred_class``, ``pred_score`` and ``top5``,
            the best classes with their scores.

    Raises:
        ValueError: If the model gives other than one score for each class.
    """

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self.dataset = dataset
        self.rows: list[dict[str, Any]] = []

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the best scores of every image."""
        for sample in data_samples:
            scores = sample['scores']
            if scores.ndim != 1:
                raise ValueError(
                    f'predictions need one score per class, and the model gives '
                    f'{tuple(scores.shape)} for an image: test an ImageClassifier'
                )
            best = scores.topk(min(TOP, len(scores)))
            self.results.append((best.indices.tolist(), best.values.tolist(), sample['label']))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Fill ``rows``."""
        classes = self.dataset.metainfo['classes'] or ()
        name = getattr(self.dataset.source, 'name', str)
        self.rows = []
        for index, (labels, scores, truth) in enumerate(results):
            named = [classes[label] if label < len(classes) else str(label) for label in labels]
            row = dict(image=name(index), label=_as_numbers(truth), pred_label=labels[0])
            row |= dict(pred_class=named[0], pred_score=scores[0])
            self.rows.append({**row, 'top5': dict(zip(named, scores, strict=True))})
        return {}


def _as_numbers(label: Tensor | int | None) -> int | list[int] | None:
    if label is None:
        return None
    label = torch.as_tensor(label)
    return label.nonzero().flatten().tolist() if label.ndim else int(label)


def average_mirrored(model: nn.Module) -> None:
    """From now on the scores of ``model`` are means over each image and its mirror image."""
    forward = model.forward

    def both(
        image: Tensor, label: Tensor | None = None, mode: str = 'tensor', **options: Any
    ) -> Any:
        found = forward(image, label, mode=mode, **options)
        if mode == 'predict':
            mirrored = forward(image.flip(-1), label, mode=mode, **options)
            for one, other in zip(found, mirrored, strict=True):
                one['scores'] = (one['scores'] + other['scores']) / 2
        return found

    model.forward = both


def draw_predictions(model: nn.Module, found: Predictions, folder: Path) -> None:
    """Write ``INDEX_NAME.png`` for each image: what the network saw, and what it said."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocessor = cast(Algorithm, model).data_preprocessor
    classes = found.dataset.metainfo['classes'] or ()
    for index, row in enumerate(found.rows):
        pixels = found.dataset[index]['image'][None]
        batch = preprocessor(dict(image=pixels.to(preprocessor.mean.device)))['image']
        shown = preprocessor.denormalize(batch)[0].cpu()  # (C, H, W), uint8
        shown = shown[:3] if len(shown) > 2 else shown[:1]
        lines = [f'{row["pred_class"]} {row["pred_score"]:.2f}']
        if isinstance(row['label'], int):
            right = row['label'] == row['pred_label']
            label = row['label']
            lines.append('right' if right else f'is {classes[label] if classes else label}')
        stem = Path(row['image'].replace('::', '/')).stem
        captioned(shown.expand(3, -1, -1), lines).save(folder / f'{index:06d}_{stem}.png')


def captioned(pixels: Tensor, lines: Sequence[str]) -> Image.Image:
    """A picture of (3, H, W) uint8, enlarged if it is small, with lines below it."""
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    factor = -(-WIDEST // picture.width)
    picture = picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
    page = Image.new('RGB', (picture.width, picture.height + LINE * len(lines)), 'white')
    page.paste(picture)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        draw.text((2, picture.height + LINE * number), line, fill='black')
    return page
