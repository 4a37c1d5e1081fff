"""Count what makes the host wait for the accelerator, and collectives between processes.

An operator makes the host wait if it needs a value, or a size that depends on values, there:
``.item()``, ``if tensor:``, ``nonzero``, indexing with a boolean mask. On a GPU each costs a round
trip; on the CPU nothing shows, except the operator itself, and that is what is counted here. Copies
to the processor (``.cpu()``, ``.tolist()``, ``.numpy()``) are no operators on a CPU tensor: they go
unseen.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Results or sizes that the host reads. repeat_interleave does where the repeats are a tensor.
READS = {
    '_local_scalar_dense',
    '_unique2',
    'bincount',
    'equal',
    'masked_scatter',
    'masked_scatter_',
    'masked_select',
    'nonzero',
    'repeat_interleave',
    'unique_consecutive',
    'unique_dim',
}
# Harmless with integer positions; with a boolean mask they run nonzero inside.
INDEXING = {'_index_put_impl_', 'index', 'index_put', 'index_put_'}
# Namespaces of the operators; those of the second wait for a collective or wrap it, too.
COLLECTIVES = ('c10d', '_c10d_functional')
HELPERS = ('wait_tensor', '_wrap')


def waits(func: Any, args: Sequence[Any]) -> bool:
    """Whether the call of an operator with ``args`` makes the host wait."""
    name = func.overloadpacket.__name__
    return name in READS or (name in INDEXING and _has_boolean_index(args[1]))


def _has_boolean_index(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


class StepCounts(TorchDispatchMode):
    """Count in a block: ``waits`` by operator, collectives ``forward`` and ``backward`` by kind.

    What happens outside of a backward pass counts as forward. ``all_reduce`` is that of joint batch
    norm; DDP and the finite guard use ``allreduce_``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.forward: Counter[str] = Counter()
        self.backward: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if waits(func, args):
            self.waits[name] += 1
        if func.namespace in COLLECTIVES and not name.startswith(HELPERS):
            runs_backward = torch._C._current_graph_task_id() != -1
            (self.backward if runs_backward else self.forward)[name] += 1
        return func(*args, **(kwargs or {}))
