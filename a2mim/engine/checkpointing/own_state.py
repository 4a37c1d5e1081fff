"""A checkpoint goes into its own model only, and a run goes on from whole states only."""

from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from a2mim.weights.fit import compare

# A new run may start from a checkpoint with another head, but not with another trunk.
MIN_MATCH = 0.9


def check_own(runner: Runner, checkpoint: dict) -> None:
    """Refuse the checkpoint of another model, which mmengine would load in part.

    Raises:
        ValueError: If too few tensors match by name and shape: in a resumed run and in a test
            all have to. Also if there are only weights to resume from, or half an update.
    """
    absent = {'meta', 'message_hub', 'optimizer'} - checkpoint.keys()
    if runner._resume and not (checkpoint.get('meta') or {}).get('resumable', True):
        raise ValueError(
            f'{runner._load_from} was written to be evaluated, perhaps in the middle of an update: '
            'resume from latest.pth beside it, or start a new run from it with --load-checkpoint'
        )
    if runner._resume and absent:
        raise ValueError(
            f'{runner._load_from} has no {", ".join(sorted(absent))}: a run cannot be resumed '
            'from it, only started, with --load-checkpoint'
        )
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    report = compare(model, checkpoint.get('state_dict', checkpoint))
    starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
    needed = MIN_MATCH if starts else 1.0
    if report.rate < needed:
        raise ValueError(
            f'{runner._load_from} does not fit {type(model).__name__}: {report}; at least '
            f'{needed:.0%} must match. Does it belong to another config?'
        )
