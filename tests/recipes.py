"""Reading the shipped recipes: models without numbers, parameter groups, learning rates."""

import functools
import json
from pathlib import Path

import torch
from mmengine import Config
from torch import nn

from a2mim.engine.optimizers import ParamRuleConstructor
from a2mim.registry import MODELS, PARAM_SCHEDULERS

CONFIGS = Path(__file__).parents[1] / 'configs/openmixup'
PRETRAIN = CONFIGS / 'pretrain'


def pretraining_recipes() -> set[str]:
    """Every experiment, as ``a2mim/imagenet/NAME``."""
    files = (path.relative_to(PRETRAIN) for path in PRETRAIN.rglob('*.py'))
    return {str(path.with_suffix('')) for path in files if '_base_' not in path.parts}


@functools.cache
def pretraining(name: str) -> Config:
    """The config of a recipe; not to be changed."""
    return Config.fromfile(PRETRAIN / f'{name}.py')


def built(model: dict) -> nn.Module:
    """Shapes and names on the meta device; recipes with equal models share one."""
    return _built(json.dumps(model, default=dict))


@functools.cache
def _built(model: str) -> nn.Module:
    with torch.device('meta'):
        return MODELS.build(json.loads(model))


def groups_of(config: Config) -> list[dict]:
    """What the optimiser would be given."""
    wrapper = config.optim_wrapper
    constructor = ParamRuleConstructor(
        dict(optimizer=wrapper['optimizer']), wrapper['paramwise_cfg']
    )
    return constructor.param_groups(built(config.model))


def group_sizes(config: Config) -> dict[tuple[float, float], int]:
    """Tensors by (learning rate, weight decay)."""
    return {
        (round(group['lr'], 12), group['weight_decay']): len(group['params'])
        for group in groups_of(config)
    }


def rates(config: Config, epoch_length: int, iterations: list[int]) -> list[float]:
    """Learning rate of the fastest group in some iterations, as the Runner would set it."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], config.optim_wrapper.optimizer.lr)
    scheduler = PARAM_SCHEDULERS.build(
        {**config.param_scheduler, 'end': config.train_cfg.max_epochs},
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
    )
    found = []
    for iteration in iterations:
        scheduler._global_step = scheduler.last_step = iteration - 1
        scheduler.step()
        found.append(optimizer.param_groups[0]['lr'])
    return found
