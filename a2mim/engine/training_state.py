"""The state of a run: collect it from hooks, model and optimiser, check it, copy it to the CPU."""

import copy
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import mmengine
import torch
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from a2mim.engine.mmengine_fixes import RuntimeInfoHook
from a2mim.engine.processes import bare_model
from a2mim.errors import NotFiniteStateError
from a2mim.weights.fit import compare

# A new run may start from a checkpoint with another head, but not with another backbone.
MIN_MATCH = 0.9


def check_own(runner: Runner, checkpoint: dict) -> None:
    """Refuse the checkpoint of another model, which mmengine would load in part.

    Raises:
        ValueError: If too few tensors match by name and shape: in a resumed run and in a test
            all have to. Also if a run is resumed from weights only, or from half an update.
    """
    absent = {'meta', 'message_hub', 'optimizer'} - checkpoint.keys()
    if runner._resume and not (checkpoint.get('meta') or {}).get('resumable', True):
        raise ValueError(
            f'{runner._load_from} was written to be evaluated, perhaps in the middle of an update: '
            'resume from latest.pth in the same folder, or start a new run from it with '
            '--load-checkpoint'
        )
    if runner._resume and absent:
        raise ValueError(
            f'{runner._load_from} has no {", ".join(sorted(absent))}: a run cannot be resumed '
            'from it, only started, with --load-checkpoint'
        )
    model = bare_model(runner.model)
    report = compare(model, checkpoint.get('state_dict', checkpoint))
    starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
    needed = MIN_MATCH if starts else 1.0
    if report.rate < needed:
        raise ValueError(
            f'{runner._load_from} does not fit {type(model).__name__}: {report}; at least '
            f'{needed:.0%} must match. Does it belong to another config?'
        )


def training_state(runner: Runner, meta: dict, *, weights_only: bool) -> dict:
    """The entries of mmengine's checkpoint as live tensors, after every hook has added its share.

    ``Runner.save_checkpoint`` of mmengine collects the same, but copies each tensor by itself and
    writes in place, all while training waits.

    Args:
        runner: A run between two iterations.
        meta: ``epoch`` and ``iter``, both finished, and what ``describe`` finds.
        weights_only: Leave out the optimiser and the schedulers.
    """
    for hook in runner.hooks:
        if isinstance(hook, RuntimeInfoHook):
            hook.flush(runner)  # values that wait for their log line
    state: dict = dict(
        meta={**meta, 'time': time.strftime('%Y%m%d_%H%M%S')},
        state_dict=bare_model(runner.model).state_dict(),
        message_hub=runner.message_hub.state_dict(),
    )
    if not weights_only:
        state['optimizer'] = cast(OptimWrapper, runner.optim_wrapper).state_dict()
        state['param_schedulers'] = scheduler_states(runner.param_schedulers or [])
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state


def scheduler_states(schedulers: object) -> list[dict] | dict[str, list[dict]]:
    """The states of one optimiser's schedulers, or of several optimisers' by name."""
    if isinstance(schedulers, dict):
        return {name: [each.state_dict() for each in own] for name, own in schedulers.items()}
    return [each.state_dict() for each in cast(list[_ParamScheduler], schedulers)]


def describe(runner: Runner) -> dict:
    """What ``meta`` says about the run; formatting the config takes long, so ask once."""
    about = dict(
        cfg=runner.cfg.pretty_text,
        seed=runner.seed,
        experiment_name=runner.experiment_name,
        mmengine_version=mmengine.__version__,
    )
    metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    return about if metainfo is None else about | dict(dataset_meta=metainfo)


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
        # The largest magnitude: NaN and Inf stay what they are, and nothing overflows.
        largest = torch._foreach_norm(  # pyright: ignore[reportPrivateImportUsage], not in stubs
            [tensor for _, tensor in pairs], math.inf
        )
        finite = torch.stack(largest).isfinite().tolist()
        bad += [name for (name, _), fine in zip(pairs, finite, strict=True) if not fine]
    if bad:
        more = f' and {len(bad) - NAMED} more' if len(bad) > NAMED else ''
        raise NotFiniteStateError(
            f'not finite: {", ".join(bad[:NAMED])}{more}; such a state is never saved. A lower '
            'learning rate, clip_grad or bfloat16 in place of float16 help most often'
        )


def named_tensors(state: object, prefix: str = '') -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dicts, lists and tuples, with dotted names."""
    if isinstance(state, Tensor):
        yield prefix[:-1], state
    elif isinstance(state, dict):
        for name, entry in state.items():
            yield from named_tensors(entry, f'{prefix}{name}.')
    elif isinstance(state, list | tuple):
        for index, entry in enumerate(state):
            yield from named_tensors(entry, f'{prefix}{index}.')


def num_bytes(state: object) -> int:
    """Bytes of the tensors in ``state``, the least that its file takes."""
    return sum(tensor.nbytes for _, tensor in named_tensors(state))


def snapshot(state: dict) -> dict:
    """A copy of ``state`` on the CPU that training does not change while it is being written.

    Tensors of a GPU go to pinned memory without waiting for each other; the host waits once, at
    the end. Tensors that are the same memory (tied weights) stay one.
    """
    copies: dict[tuple, Tensor] = {}
    result = _copied(state, copies)
    if any(key[0].type == 'cuda' for key in copies):
        torch.cuda.synchronize()
    return cast(dict, result)


def _copied(value: object, copies: dict[tuple, Tensor]) -> object:
    if isinstance(value, Tensor):
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if key not in copies:
            copies[key] = _on_cpu(value.detach())
        return copies[key]
    if isinstance(value, dict):
        # With its attributes: the state_dict of a module has the versions of its layers as one.
        fresh = copy.copy(value)
        for key, entry in value.items():  # ``update`` of a Counter would add the counts
            fresh[key] = _copied(entry, copies)
        return fresh
    if type(value) is list or type(value) is tuple:
        return type(value)(_copied(entry, copies) for entry in value)
    return copy.deepcopy(value)


def _on_cpu(tensor: Tensor) -> Tensor:
    if tensor.device.type == 'cpu':
        return tensor.clone()
    pinned = tensor.device.type == 'cuda'
    fresh = torch.empty_like(tensor, device='cpu', pin_memory=pinned)
    return fresh.copy_(tensor, non_blocking=pinned)
