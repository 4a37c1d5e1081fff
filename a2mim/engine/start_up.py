"""Start-up of a training: leave out what mmengine imports for two optimisers that few runs use.

mmengine imports transformers for ``Adafactor``, and torch's sharded optimisers for
``ZeroRedundancyOptimizer``, whether a config names them or not. Both are registered here again, and
imported where a config names them.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from a2mim.registry import OPTIMIZERS

LEFT_OUT = ('transformers', 'torch.distributed.optim')


@contextmanager
def lean_imports() -> Iterator[None]:
    """Within the block ``LEFT_OUT`` are as if not installed; mmengine does without them."""
    absent = [name for name in LEFT_OUT if name not in sys.modules]
    # None is how Python marks a module that is not to be found.
    sys.modules.update(dict.fromkeys(absent))  # pyright: ignore
    try:
        yield
    finally:
        for name in absent:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]


@OPTIMIZERS.register_module(name='Adafactor')
def adafactor(params: Iterable, **options: object) -> object:
    """The optimiser of transformers."""
    from transformers import Adafactor

    return Adafactor(params, **options)  # pyright: ignore[reportArgumentType]


@OPTIMIZERS.register_module(name='ZeroRedundancyOptimizer')
def zero_redundancy_optimizer(params: Iterable, optimizer_type: str, **options: object) -> object:
    """torch's, sharded over the processes; its state is collected on the first one.

    Args:
        params: Parameters, or groups of them.
        optimizer_type: Name of the local optimiser in ``torch.optim``.
        options: For ``torch.distributed.optim.ZeroRedundancyOptimizer`` and the local optimiser.
    """
    from mmengine.dist import is_main_process
    from torch import optim
    from torch.distributed.optim import ZeroRedundancyOptimizer

    class Collected(ZeroRedundancyOptimizer):
        def state_dict(self) -> dict:
            self.consolidate_state_dict()
            return super().state_dict() if is_main_process() else {}

    return Collected(list(params), getattr(optim, optimizer_type), **options)  # pyright: ignore
