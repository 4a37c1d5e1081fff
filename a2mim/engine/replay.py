"""Compute a failed step again, watched module by module."""

from dataclasses import dataclass

import torch
from mmengine import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from a2mim.engine.step_seed import seed_step
from a2mim.registry import MODELS
from a2mim.weights.recipe import literal_config


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
        return not torch.tensor(numbers).isfinite().all()


def replay(content: dict) -> Replay:
    """Compute what ``failed_step.read`` returned, on the GPU if there is one.

    Raises:
        ValueError: If the run had no config to build its model from.
    """
    written = literal_config(content['config'])
    if not written or 'model' not in written:
        raise ValueError('the run was built without a config: its model cannot be built again')
    cfg, device = Config(written), get_device()
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'a2mim')):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.load_state_dict(content['state_dict'])
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
        values = [output] if isinstance(output, Tensor) else output
        values = values.values() if isinstance(values, dict) else values or ()
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
