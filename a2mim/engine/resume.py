"""Start from, or test, a checkpoint of any system: fit it to the model, or say why it is not its.

Decoder, mask token and classifier are a few tensors of hundreds, so that a share of matches would
not show that one is missing.
"""

import platform
from collections.abc import Sized

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from a2mim.engine.config_edit import BatchPlan, compare_plans
from a2mim.registry import HOOKS
from a2mim.weights.fit import check_classes, check_parts, fit_model, without_other_classes
from a2mim.weights.names import TRUNK


@HOOKS.register_module()
class FitWeightsHook(Hook):
    """Bring names and positions of a loaded checkpoint to those of the model.

    Before every other hook, so that all of them, and mmengine, meet names that they know. A run
    that is resumed is our own and stays untouched. The runner of the tools registers the hook.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace ``checkpoint['state_dict']``.

        Raises:
            ValueError: If it is not of this model, with the name of the file and what differs. A
                training may start with another number of classes, a test may not.
        """
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        try:
            state = fit_model(checkpoint, model)
            check_parts(state, model.state_dict())
            if isinstance(runner._train_loop, BaseLoop):
                state = without_other_classes(state, model, TRUNK)
            else:
                check_classes(state, model, TRUNK)
        except ValueError as error:
            raise ValueError(
                f'{runner._load_from} does not fit {type(model).__name__}: {error}'
            ) from error
        checkpoint['state_dict'] = state


# [run_record]
# What a checkpoint says of the run that wrote it, and what a resumed run makes of it.


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Write processes, batch, images and machine into ``meta['run']``; compare them on resume.

    The same run on the same kind of machine goes on bit by bit. Another machine or another number
    of processes is said in the log, and what would be another training is refused. The runner of
    the tools registers the hook.
    """

    priority = 'VERY_HIGH'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Describe this run."""
        checkpoint['meta']['run'] = describe(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Say how a resumed run differs from the one that was stopped.

        Raises:
            ValueError: If it has other images, or another batch.
        """
        if not runner._resume:
            return
        before, now = (checkpoint.get('meta') or {}).get('run'), describe(runner)
        if before is None:
            runner.logger.warning(
                f'{runner._load_from} does not say on how many processes it was trained: the '
                'schedules hold only if processes, batch size and accumulation are the same now'
            )
            return
        notes = [compare_plans(BatchPlan(**before['batch']), BatchPlan(**now['batch']))]
        for name, counted in (('images', 'images'), ('epoch_length', 'batches per epoch')):
            if before[name] != now[name]:
                raise ValueError(
                    f'{runner._load_from} was trained on {before[name]} {counted}, and there are '
                    f'{now[name]} now: resume with the same ones, or start a new run with '
                    '--load-checkpoint'
                )
        if before['machine'] != now['machine']:
            notes.append(
                f'resumed on {now["machine"]}, stopped on {before["machine"]}: results agree, but '
                'not to the last bit'
            )
        for note in filter(None, notes):
            runner.logger.warning(note)


def describe(runner: Runner) -> dict[str, object]:
    """What ``meta['run']`` says; plain numbers and strings."""
    loader = runner.train_dataloader
    return dict(
        batch=dict(
            processes=get_world_size(),
            batch_size=getattr(loader.batch_sampler, 'batch_size', loader.batch_size),
            accumulation=runner.cfg.optim_wrapper.get('accumulative_counts', 1),
        ),
        images=len(loader.dataset) if isinstance(loader.dataset, Sized) else None,
        epoch_length=len(loader),
        machine=f'torch {torch.__version__}, {_device_name()}',
    )


def _device_name() -> str:
    """All that the order of additions depends on."""
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f'{platform.machine()} {capability} with {threads} threads'
