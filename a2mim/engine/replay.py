"""A failed step as a file, and its replay: which module is the first whose output is not finite."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from a2mim.engine.processes import bare_model
from a2mim.engine.step_seed import seed_step
from a2mim.weights.files import write_atomically
from a2mim.weights.recipe import build_model, build_wrapper, literal_config
from a2mim.weights.safe_load import load_file

FAILED_STEPS = 'failed_steps'
KIND = 'a2mim failed step'


def write_failed_step(
    runner: Runner, steps: Sequence[dict], grad_norm: float, buffers: Mapping[str, Tensor]
) -> Path:
    """Write what computes the loss and the gradients of an update again, as plain data.

    The weights decide both, so that the state of the optimiser, which is larger, is left out.

    Args:
        runner: The run, whose update has been skipped.
        steps: ``iteration``, ``batch`` and ``loss`` of each pass of the update.
        grad_norm: Norm of the gradients.
        buffers: Running statistics as they were before the batch; the model's own have seen it.

    Returns:
        ``failed_steps/iter_N_rank_R.pth``. N counts from 1, as the log does; iterations in the file
        are those done before, as seeds are.
    """
    state = bare_model(runner.model).state_dict()
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    content = dict(
        kind=KIND,
        iteration=steps[-1]['iteration'],
        rank=get_rank(),
        world_size=get_world_size(),
        seed=runner.seed,
        loss_scale=scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0,
        steps=on_cpu(steps),
        grad_norm=grad_norm,
        state_dict=on_cpu(state | {k: value for k, value in buffers.items() if k in state}),
        config=runner.cfg.pretty_text,
    )
    name = f'iter_{steps[-1]["iteration"] + 1}_rank_{get_rank()}.pth'
    path = Path(runner.work_dir) / FAILED_STEPS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, partial(torch.save, content))
    return path


def on_cpu(value: object) -> object:
    """``value`` with every tensor in it copied to the CPU, which later changes do not reach."""
    if isinstance(value, Tensor):
        return value.detach().to('cpu', copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [on_cpu(entry) for entry in value]
    return value


def read_failed_step(path: str | Path) -> dict:
    """The content of a file, by the strict loader.

    Raises:
        ValueError: If the file is something else.
    """
    content = load_file(path)
    if content.get('kind') != KIND:
        raise ValueError(
            f'{path} is not a failed step; a run writes them to WORK_DIR/{FAILED_STEPS}'
        )
    return content


@dataclass
class Replay:
    """What a replayed step gave.

    Attributes:
        losses: Values by name, for each pass of the update.
        grad_norm: Norm of the gradients.
        module: The first module, in the order of computation, whose output was not finite.
        bad_parameters: Names of the parameters whose gradient is not finite.
        num_parameters: How many parameters have a gradient.
    """

    losses: list[dict[str, float]]
    grad_norm: float
    module: str | None
    bad_parameters: list[str]
    num_parameters: int

    @property
    def failed(self) -> bool:
        """Whether the step is not finite."""
        numbers = [self.grad_norm, *(value for step in self.losses for value in step.values())]
        return not all(map(math.isfinite, numbers))


def replay(content: dict) -> Replay:
    """Compute what ``read_failed_step`` returned, on the GPU if there is one.

    Raises:
        ValueError: If the file has no config to build the model from, or this one asks for anything
            but models and optimisers that are registered.
    """
    cfg = literal_config(content['config']) or {}
    if not all(isinstance(cfg.get(part), dict) for part in ('model', 'optim_wrapper')):
        raise ValueError('the file has no config that can be read: its model cannot be built again')
    state, device = content['state_dict'], get_device()
    model = cast(BaseModel, build_model(cfg['model'], state, KIND))
    wrapper = build_wrapper(model, cfg['optim_wrapper'], KIND)
    model.load_state_dict(state)
    model.to(device).train()
    wrapper._accumulative_counts = len(content['steps'])
    first_bad = watch_outputs(model)
    losses = []
    for step in content['steps']:
        seed_step(content['seed'], step['iteration'], content['rank'])
        with wrapper.optim_context(model):
            data = model.data_preprocessor(step['batch'], True)
            loss, log = model.parse_losses(model(**data, mode='loss'))
        (wrapper.scale_loss(loss) * content['loss_scale']).backward()
        losses.append({name: float(value.detach()) for name, value in log.items()})
    return measured(model, losses, first_bad, content['loss_scale'])


def watch_outputs(model: nn.Module) -> list[str]:
    """A list that receives the names of modules whose output is not finite, innermost first."""
    found: list[str] = []

    def look(name: str, output: object) -> None:
        values = output.values() if isinstance(output, dict) else output
        if isinstance(values, Tensor) or not isinstance(values, Iterable):
            values = [values]
        if not all(value.isfinite().all() for value in values if isinstance(value, Tensor)):
            found.append(name)

    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda module, args, output, name=name: look(name or type(module).__name__, output)
        )
    return found


def measured(
    model: nn.Module, losses: list[dict[str, float]], bad_outputs: list[str], scale: float
) -> Replay:
    """Read the gradients off the parameters."""
    gradients = {n: p.grad / scale for n, p in model.named_parameters() if p.grad is not None}
    return Replay(
        losses=losses,
        grad_norm=float(torch.nn.utils.get_total_norm([*gradients.values()])),
        module=next(iter(bad_outputs), None),
        bad_parameters=[name for name, grad in gradients.items() if not grad.isfinite().all()],
        num_parameters=len(gradients),
    )
