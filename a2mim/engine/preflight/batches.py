"""The images of a data set, split over processes and steps."""

import numpy as np
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def check_batches(runner: Runner) -> str:
    """How many batches every process gets from one pass through the images.

    Raises:
        ValueError: If it gets none, or there are fewer images than processes, so that some would
            see copies only.
    """
    loader, processes = runner.train_dataloader, get_world_size()
    split = f'{len(loader.dataset)} images, {processes} process(es) with {batch_size(loader)} each'
    if len(loader.dataset) < processes or len(loader) == 0:
        raise ValueError(
            f'{split} make no step; give more images, a smaller train_dataloader.batch_size or '
            'fewer processes'
        )
    return f'batches: {split} make {len(loader)} iterations, at least 1 needed'


def batch_size(loader: DataLoader) -> int:
    """Images per batch, whether torch makes the batches or a batch sampler of the config."""
    return loader.batch_size or loader.batch_sampler.batch_size


def example_batch(loader: DataLoader, size: int | None = None) -> dict:
    """A batch of images spread evenly over the data set; sampler and workers stay untouched.

    Args:
        loader: What loads the images in training.
        size: Number of images; None for a full batch, or all images where there are fewer.
    """
    last = len(loader.dataset) - 1
    places = np.linspace(0, last, min(size or batch_size(loader), last + 1), dtype=int)
    return loader.collate_fn([loader.dataset[int(place)] for place in places])
