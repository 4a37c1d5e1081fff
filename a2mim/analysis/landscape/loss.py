"""Loss and accuracy of a network on images that are read once and kept as bytes.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from a2mim.models.classifier import ImageClassifier
from a2mim.registry import DATASETS, FUNCTIONS

LARGEST = 4 << 30  # bytes of images that are kept


def fixed_batches(cfg: Config, number: int | None, seed: int = 0) -> list[dict]:
    """Validation images of ``cfg``, or of a pre-training config, images with their masks.

    Args:
        cfg: A config of ours.
        number: How many, chosen by ``seed``; None for all validation images, or 256 training ones.
        seed: Of the choice, and of crops and masks of pre-training.

    Raises:
        ValueError: If there are fewer images than ``number``, or they take more than 4 GiB.
    """
    labelled = bool(cfg.get('val_dataloader'))
    loader = cfg.val_dataloader if labelled else cfg.train_dataloader
    options = dict(loader.dataset) if labelled else {**loader.dataset, 'seed': seed}
    dataset = DATASETS.build(options)
    if number is None:
        number = len(dataset) if labelled else min(256, len(dataset))
    if not 1 <= number <= len(dataset):
        raise ValueError(f'{number} images were asked for; give 1 to {len(dataset)}')
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:number]).tolist()
    batches, size = [], 0
    loading = DataLoader(
        Subset(dataset, chosen),
        batch_size=loader.batch_size,
        num_workers=loader.get('num_workers', 0),
        collate_fn=FUNCTIONS.get(loader.collate_fn.type),
    )
    for batch in loading:
        size += batch['image'].nbytes
        if size > LARGEST:
            raise ValueError(f'{number} images take more than 4 GiB; give a smaller --num-images')
        batches.append(batch)
    return batches


class LossOnSet:
    """Mean loss, and for classifiers top-1 in per cent, over batches.

    Args:
        model: ``ImageClassifier``, or one whose ``loss`` takes images and masks; in evaluation
            mode, so that batch norm uses its running statistics.
        batches: What ``fixed_batches`` returns.

    Raises:
        ValueError: If a classifier gets images without labels.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Mapping[str, Tensor]]) -> None:
        self.model, self.batches = model.eval(), batches
        self.classifies = isinstance(model, ImageClassifier)
        needed = 'label' if self.classifies else 'mask'
        if needed not in batches[0]:
            raise ValueError(
                f'{type(model).__name__} needs images with a {needed}, which the config does not '
                'give; take the config that the checkpoint was trained with'
            )

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """``loss``, and ``top1`` of a classifier, of the weights as they are now."""
        sums: dict[str, float] = {}
        for batch in self.batches:
            data = self.model.data_preprocessor(dict(batch))
            for name, value in self._of_batch(data).items():
                sums[name] = sums.get(name, 0.0) + value * len(data['image'])
        number = sum(len(batch['image']) for batch in self.batches)
        return {name: value / number for name, value in sums.items()}

    def _of_batch(self, data: Mapping[str, Tensor]) -> dict[str, float]:
        if not self.classifies:
            losses = self.model.loss(data['image'], data['mask'])
            return dict(loss=sum(float(value) for name, value in losses.items() if 'loss' in name))
        logits = self.model.logits(data['image'])
        hits = logits.argmax(dim=1) == data['label']
        loss = float(self.model.classifier_loss(logits, data['label']))
        return dict(loss=loss, top1=100.0 * float(hits.float().mean()))
