"""A step that failed, as a file: everything that computes its loss and gradients again.

The weights decide both, so that the state of the optimiser, which is larger, is left out. The file
has the size of the model's weights and of the batch, and holds plain data only.
"""

import os
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from a2mim.engine.guard.update_guard import UpdateGuard, Verdict
from a2mim.weights.safe_load import load_file

FOLDER = 'failed_steps'
KIND = 'a2mim failed step'


def describe(runner: Runner, guard: UpdateGuard, verdict: Verdict) -> dict:
    """The content of the file, for a verdict whose update has moved nothing."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    # Running statistics as they were before the batch; the model's own may have seen it.
    state, saved = model.state_dict(), guard.buffers.saved()
    state |= {name: value for name, value in saved.items() if name in state}
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return dict(
        kind=KIND,
        iteration=verdict.steps[-1].iteration,
        rank=get_rank(),
        world_size=get_world_size(),
        seed=runner.seed,
        loss_scale=scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0,
        steps=[
            dict(iteration=s.iteration, batch=on_cpu(s.batch), loss=float(s.loss.sum()))
            for s in verdict.steps
        ],
        grad_norm=verdict.grad_norm,
        state_dict=on_cpu(state),
        config=runner.cfg.pretty_text,
    )


def write(content: dict, work_dir: str) -> Path:
    """Write ``failed_steps/iter_N_rank_R.pth``, complete or not at all, and return its path.

    N counts from 1, as the log does; iterations in the content are those done before, as seeds are.
    """
    name = f'iter_{content["iteration"] + 1}_rank_{content["rank"]}.pth'
    path = Path(work_dir) / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    try:
        with partial.open('wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read(path: str | Path) -> dict:
    """The content of a file, by the strict loader.

    Raises:
        ValueError: If the file is something else.
    """
    content = load_file(path)
    if content.get('kind') != KIND:
        raise ValueError(f'{path} is no failed step; a run writes them to WORK_DIR/{FOLDER}')
    return content


def on_cpu(value: object) -> object:
    """``value`` with every tensor in it copied to the CPU; it is used and changed further on."""
    if isinstance(value, Tensor):
        return value.detach().to('cpu', copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [on_cpu(entry) for entry in value]
    return value
