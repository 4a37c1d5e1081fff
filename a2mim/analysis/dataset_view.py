"""Training images as stored, after augmentation, and as the network gets them.

Axes: N images, C channels, (H, W) pixels, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from a2mim.analysis.reconstructions import SIDE, show
from a2mim.datasets.samplers import SampleKey
from a2mim.masking import fill_masked
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.registry import DATASETS, FUNCTIONS, MODELS

LEAST_SHARE = 0.02  # of a class in a mixed label, above that of label smoothing
LONGEST = 18  # characters of a class name


@dataclass(frozen=True)
class DatasetView:
    """N samples.

    Attributes:
        originals: uint8 (C, H, W) of any size, as stored.
        augmented: uint8 (N, C, H, W), after the pipeline.
        seen: uint8 (N, C, H, W), after erasing, mixing or masking.
        captions: Of each sample: its classes and their shares, or its mask ratio.
    """

    originals: list[Tensor]
    augmented: Tensor
    seen: Tensor
    captions: list[str]


def view_dataset(cfg: Config, number: int, *, seed: int = 0, epoch: int = 0) -> DatasetView:
    """A batch of ``number`` training images, mixed as one batch.

    ``seed`` chooses images and mixing; augmentations have the data set's own seed and ``epoch``.

    Raises:
        ValueError: If the config has no training, or fewer images.
    """
    if not cfg.get('train_dataloader') or not cfg.get('model'):
        raise ValueError('the config has no train_dataloader or no model: nothing is trained')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        preprocessor = MODELS.build(cfg.model.data_preprocessor)
        collate = cast(Callable, FUNCTIONS.get(cfg.train_dataloader.collate_fn.type))
    if not 1 <= number <= len(dataset):
        raise ValueError(f'{number} images were asked for; the data set has 1 to {len(dataset)}')
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:number].tolist()
    batch = collate([dataset[SampleKey(index, epoch)] for index in chosen])
    augmented = batch['image'].clone()
    torch.manual_seed(seed)  # timm mixes from numpy's global state, noise is torch's
    state = np.random.get_state()
    np.random.seed(seed)
    batch = preprocessor(batch, training=True)
    np.random.set_state(state)
    image, captions = batch['image'], [''] * number
    if 'mask' in batch:
        image = fill_masked(image, batch['mask'])
        captions = [f'{100 * float(mask.mean()):.0f} % masked' for mask in batch['mask']]
    elif 'label' in batch:
        captions = [label_text(label, dataset.source.classes) for label in batch['label']]
    originals = [as_8_bits(dataset.source.load(index)[None], preprocessor)[0] for index in chosen]
    augmented = as_8_bits(augmented, preprocessor)
    return DatasetView(originals, augmented, preprocessor.denormalize(image), captions)


def as_8_bits(images: Tensor, preprocessor: ImagePreprocessor) -> Tensor:
    """Images (N, C, H, W) of any type as uint8, by the scale of the preprocessor."""
    return preprocessor.to_255(images).round().clamp(0, 255).to(torch.uint8)


def label_text(label: Tensor, classes: Sequence[str]) -> str:
    """Caption of a class index, or of the two largest of class probabilities (K,)."""
    if label.ndim == 0:
        return _short(classes, int(label))
    shares = label.sort(descending=True)
    pairs = zip(shares.values.tolist(), shares.indices.tolist(), strict=True)
    big = [(share, index) for share, index in pairs if share > LEAST_SHARE][:2]
    return '\n'.join(f'{share:.2f} {_short(classes, index)}' for share, index in big)


def draw_view(view: DatasetView, title: str) -> Figure:
    """Draw a column for each sample, with rows as stored, augmented and seen."""
    rows = [('as stored', view.originals), ('augmented', view.augmented), ('seen', view.seen)]
    number = len(view.captions)
    figure = Figure(figsize=(SIDE * number + 0.4, SIDE * 3 + 0.9), layout='constrained')
    axes = figure.subplots(3, number, squeeze=False)
    for line, (name, pictures) in zip(axes, rows, strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            show(axis, picture)
        line[0].set_axis_on()
        line[0].set(xticks=[], yticks=[], frame_on=False)
        line[0].set_ylabel(name, fontsize=8)
    for axis, caption in zip(axes[2], view.captions, strict=True):
        axis.text(0.5, -0.05, caption, transform=axis.transAxes, fontsize=6, ha='center', va='top')
    figure.suptitle(title, fontsize=8)
    return figure


def _short(classes: Sequence[str], index: int) -> str:
    name = classes[index] if index < len(classes) else str(index)
    return name if len(name) <= LONGEST else f'{name[: LONGEST - 1]}…'
