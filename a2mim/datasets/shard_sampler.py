"""An order of the images that reads shards one after the other, and is random all the same.

Axes: N images.
"""

from collections.abc import Sized

import numpy as np

from a2mim.datasets.samplers import EpochSampler
from a2mim.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """The shards in random order, each process its own part of them, mixed within a window.

    At any time a process reads the shards of one window, which the memory of the machine holds
    between reads; its data workers share them. Processes read different shards, but for one that
    may lie across the border of two parts. The order is a function of the seed, the epoch and the
    number of processes.

    Args:
        dataset: Its ``source`` has ``starts``, the numbers of the images with which shards begin.
        window: Images that are mixed; a few times the images of a shard.
        seed: Shared by all ranks; the runner passes its own.
        round_up: Whether every rank gets the same number of samples.

    Raises:
        ValueError: If ``window`` is less than 2.
        TypeError: If the data set has no shards.
    """

    def __init__(
        self, dataset: Sized, window: int, seed: int | None = None, round_up: bool = True
    ) -> None:
        super().__init__(dataset, shuffle=True, seed=seed, round_up=round_up)
        if window < 2:
            raise ValueError(
                f'window={window} mixes nothing; give a few times the images of a shard'
            )
        source = getattr(dataset, 'source', dataset)
        if not hasattr(source, 'starts'):
            raise TypeError(
                f'{type(source).__name__} has no shards to read in turn; use EpochSampler for it'
            )
        self.window = window
        self.starts = np.asarray(source.starts)

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch; rank r of n takes every n-th from the r-th on."""
        rng = np.random.default_rng((self.seed, epoch))
        shards = np.split(np.arange(len(self.dataset)), self.starts[1:])
        in_turn = np.concatenate([shards[number] for number in rng.permutation(len(shards))])
        order = np.empty_like(in_turn)
        for rank, part in enumerate(np.array_split(in_turn, self.world_size)):
            windows = np.split(part, range(self.window, len(part), self.window))
            order[rank :: self.world_size] = np.concatenate(
                [rng.permutation(window) for window in windows]
            )
        return order
