"""No state that is not finite becomes a checkpoint."""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from a2mim.errors import NotFiniteStateError

NAMED = 3  # tensors that the message names


def check_finite(state: object) -> None:
    """Look at every floating-point tensor in ``state``, and wait for the device once.

    Raises:
        NotFiniteStateError: Naming the first tensors that are not finite.
    """
    by_kind: dict[tuple, list[tuple[str, Tensor]]] = defaultdict(list)
    for name, tensor in named_tensors(state):
        if tensor.is_floating_point() and tensor.numel():
            by_kind[tensor.device, tensor.dtype].append((name, tensor.detach()))
    bad = []
    for pairs in by_kind.values():
        # The largest magnitude: NaN and infinity stay what they are, and nothing overflows.
        largest = torch._foreach_norm([tensor for _, tensor in pairs], float('inf'))
        finite = torch.stack(largest).isfinite().tolist()
        bad += [name for (name, _), fine in zip(pairs, finite, strict=True) if not fine]
    if bad:
        more = f' and {len(bad) - NAMED} more' if len(bad) > NAMED else ''
        raise NotFiniteStateError(
            f'not finite: {", ".join(bad[:NAMED])}{more}; such a state is never saved. A lower '
            'learning rate, clip_grad or bfloat16 in place of float16 help most often'
        )


def named_tensors(state: object, prefix: str = '') -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dicts and lists, with dotted names."""
    if isinstance(state, Tensor):
        yield prefix[:-1], state
        return
    if isinstance(state, dict):
        items = state.items()
    else:
        items = enumerate(state) if type(state) in (list, tuple) else ()
    for name, entry in items:
        yield from named_tensors(entry, f'{prefix}{name}.')
