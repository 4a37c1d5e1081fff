"""The shipped configs: where they are, models without weights, parameter groups, learning rates."""

from pathlib import Path

import torch
from mmengine import Config
from torch import nn

from a2mim.engine.optimizers import ParamRuleConstructor
from a2mim.registry import MODELS, PARAM_SCHEDULERS
from a2mim.weights.released import OF_OTHERS, is_recipe

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
# Those for MMPretrain's launcher are built by tests/transfer/test_mmpretrain.py.
FILES = [path for path in sorted(CONFIGS.rglob('*.py')) if path.parent.name not in OF_OTHERS]
EXPERIMENTS = [path for path in FILES if is_recipe(path)]


def name_of(path: Path) -> str:
    """Path below ``configs/`` without its suffix."""
    return path.relative_to(CONFIGS).with_suffix('').as_posix()


# The experiments of the reference implementation.
PUBLISHED = [name_of(path) for path in EXPERIMENTS if 'openmixup' in path.parts]
PRETRAINING = [name for name in PUBLISHED if name.startswith('openmixup/pretrain/')]


def read(name: str) -> Config:
    """The config of that name, as ``name_of`` gives it."""
    return Config.fromfile(CONFIGS / f'{name}.py')


def built(model: dict) -> nn.Module:
    """Shapes and names on the meta device: weights would take most of the time and memory."""
    if isinstance(model.get('teacher'), dict):  # without a network
        model = {**model, 'teacher': {**model['teacher'], 'pretrained': False}}
    with torch.device('meta'):
        return MODELS.build(model)


def groups_of(config: Config, model: nn.Module) -> list[dict]:
    """Parameter groups that the optimiser of ``config`` would be given."""
    wrapper = config.optim_wrapper
    constructor = ParamRuleConstructor(
        dict(optimizer=wrapper.optimizer), wrapper.get('paramwise_cfg')
    )
    return constructor.param_groups(model)


def options_of(name: str) -> dict[str, tuple[float, float]]:
    """(Learning rate, weight decay) of every parameter of a recipe, by its name in timm."""
    config = read(name)
    return {
        parameter.removeprefix('backbone.model.'): (group['lr'], group['weight_decay'])
        for group in groups_of(config, built(config.model))
        for parameter, _ in group['params']
    }


def rates(
    config: Config, epoch_length: int, iterations: list[int], share: float = 1.0
) -> list[float]:
    """Learning rates in some iterations, as the Runner sets them.

    They are those of a group that starts with ``share`` of the full rate.
    """
    rate = config.optim_wrapper.optimizer.lr * share
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], rate)
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
