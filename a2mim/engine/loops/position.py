"""Where a loader begins: after a number of batches, without loading them."""

from torch.utils.data import BatchSampler, DataLoader


def can_start(loader: DataLoader) -> bool:
    """Whether ``loader`` begins anywhere: its sampler has ``start_at``, its batches one size."""
    batches = loader.batch_sampler
    return type(batches) is BatchSampler and hasattr(batches.sampler, 'start_at')


def start_after(loader: DataLoader, batches: int) -> None:
    """Let the next pass through ``loader`` begin after ``batches`` batches.

    Raises:
        ValueError: If it cannot begin anywhere but at its beginning.
    """
    if can_start(loader):
        loader.batch_sampler.sampler.start_at(batches * loader.batch_sampler.batch_size)
    elif batches:
        sampler = getattr(loader.batch_sampler, 'sampler', None)
        raise ValueError(
            f'the checkpoint was written after {batches} batches of an epoch, and '
            f'{type(loader.batch_sampler).__name__} with {type(sampler).__name__} cannot begin '
            'there: take EpochSampler in train_dataloader, or resume from the end of an epoch'
        )
