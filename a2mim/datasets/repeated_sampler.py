"""Repeated augmentation: a step sees some images several times, each time augmented anew."""

import math
from collections.abc import Iterator, Sized

from a2mim.datasets.samplers import EpochSampler, SampleKey
from a2mim.registry import DATA_SAMPLERS

ROUND = 256  # the published rule drops what does not fill this many


@DATA_SAMPLERS.register_module()
class RepeatedEpochSampler(EpochSampler):
    """As many samples an epoch as there are images, but copies of a third of them.

    Every image of the epoch's order stands there ``num_repeats`` times in a row. Rank r of n takes
    the entries r, r + n, …, so that the copies of an image fall to different ranks. It stops after
    ⌊⌊len / 256⌋ · 256 / n⌋ of them: 160128 on each of 8 ranks for ImageNet-1K, 626 batches of 256
    of which the last is half full. A data set below 256 images is not cut.

    The order is a function of (seed, epoch), where the published one is of the epoch alone.

    Args:
        dataset: Anything with a length.
        num_repeats: Copies of an image.
        shuffle: Whether each epoch has its own order.
        seed: Shared by all ranks; the runner passes its own.

    Raises:
        ValueError: If ``num_repeats`` is less than 1.

    Reference:
        Hoffer et al., Augment your batch, CVPR 2020 (https://arxiv.org/abs/1901.09335); the rule is
        that of DeiT and of ``timm.data.distributed_sampler.RepeatAugSampler``.
    """

    def __init__(
        self, dataset: Sized, num_repeats: int = 3, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        if num_repeats < 1:
            raise ValueError(f'num_repeats={num_repeats} must be at least 1; published: 3')
        self.num_repeats = num_repeats
        size = len(dataset)
        if size < ROUND:
            self.num_samples = math.ceil(size / self.world_size)
        else:
            self.num_samples = size // ROUND * ROUND // self.world_size

    def keys(self, epoch: int, start: int = 0) -> Iterator[SampleKey]:
        """What this rank sees of an epoch, from its ``start``-th sample on."""
        order = self.order(epoch)
        for step in range(start, self.num_samples):
            place, repeat = divmod(self.rank + step * self.world_size, self.num_repeats)
            # Where there are more ranks than copies, the first images come again as further ones.
            again, place = divmod(place, len(order))
            yield SampleKey(int(order[place]), epoch, repeat + again * self.num_repeats)
