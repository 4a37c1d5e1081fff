"""Learning rates of a config in any iteration, without a run."""

import torch
from mmengine import Config
from torch import nn

from a2mim.registry import PARAM_SCHEDULERS


def rates_at(config: Config, epoch_length: int, iterations: list[int]) -> list[float]:
    """The rate of the fastest group in some iterations, as the Runner would set it."""
    rate = config.optim_wrapper.optimizer.lr
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
