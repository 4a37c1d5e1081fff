"""What a checkpoint holds: the entries of mmengine's, still where training has them.

``Runner.save_checkpoint`` of mmengine collects the same, but copies each tensor by itself and
writes in place, all while training waits.
"""

import time

import mmengine
from mmengine.model import is_model_wrapper
from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner

from a2mim.engine.compat.deferred_logging import RuntimeInfoHook


def training_state(runner: Runner, meta: dict, *, weights_only: bool) -> dict:
    """The state of ``runner`` as live tensors, after every hook has added its share.

    Args:
        runner: A run between two iterations.
        meta: What to say beside the tensors: ``epoch`` and ``iter``, both finished, and what
            ``describe`` finds.
        weights_only: Leave out the optimiser and the schedulers.
    """
    for hook in runner.hooks:
        if isinstance(hook, RuntimeInfoHook):
            hook.flush(runner)  # values that wait for their log line
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    state = dict(
        meta={**meta, 'time': time.strftime('%Y%m%d_%H%M%S')},
        state_dict=model.state_dict(),
        message_hub=runner.message_hub.state_dict(),
    )
    if not weights_only:
        state['optimizer'] = runner.optim_wrapper.state_dict()
        state['param_schedulers'] = scheduler_states(runner.param_schedulers or [])
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state


def describe(runner: Runner) -> dict:
    """Where the states of a run come from; to format the config takes long, so ask once."""
    about = dict(
        cfg=runner.cfg.pretty_text,
        seed=runner.seed,
        experiment_name=runner.experiment_name,
        mmengine_version=mmengine.__version__,
    )
    dataset = runner.train_dataloader.dataset
    return about | (dict(dataset_meta=dataset.metainfo) if hasattr(dataset, 'metainfo') else {})


def scheduler_states(
    schedulers: list[_ParamScheduler] | dict[str, list[_ParamScheduler]],
) -> list[dict] | dict[str, list[dict]]:
    """The states of one optimiser's schedulers, or of several by name."""
    if isinstance(schedulers, dict):
        return {name: scheduler_states(own) for name, own in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]
