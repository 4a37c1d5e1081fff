"""Learning rates of a config, iteration by iteration, from its own schedulers.

The model is built to group its parameters as the run does; then every group is one number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from mmengine import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import Dataset

from a2mim.weights.load_model import build_model

SCHEDULED = ('lr', 'weight_decay', 'momentum')


@dataclass(frozen=True)
class Rates:
    """What an optimiser is told at every iteration.

    Attributes:
        values: By name, ``lr`` and what else changes: (iterations, distinct rows of groups).
        initial: Learning rate of each column before any scheduler.
        epoch_length: Iterations of an epoch.
    """

    values: dict[str, np.ndarray]
    initial: tuple[float, ...]
    epoch_length: int


def read_rates(cfg: Config, dataset_size: int | None = None, processes: int = 1) -> Rates:
    """Step through the schedule of ``cfg`` without a forward pass.

    Args:
        cfg: Of any training.
        dataset_size: Number of images; None opens the data set to count them.
        processes: Among which the images are shared.

    Raises:
        ValueError: If it has no schedule, or an epoch has no iteration.
    """
    for entry in ('param_scheduler', 'optim_wrapper', 'train_dataloader', 'train_cfg'):
        if not cfg.get(entry):
            raise ValueError(f'the config has no {entry}: there is no learning rate to draw')
    length = _epoch_length(cfg, dataset_size, processes)
    total = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs * length
    epochs = cfg.train_cfg.get('max_epochs') or -(-total // length)
    wrapper = _one_number_a_group(cfg)
    initial = tuple(group['lr'] for group in wrapper.optimizer.param_groups)
    run = SimpleNamespace(
        _train_loop=_Ends(), max_epochs=epochs, max_iters=total, train_dataloader=range(length),
        logger=MMLogger.get_current_instance(),
    )  # fmt: skip
    schedulers = Runner._build_param_scheduler(run, cfg.param_scheduler, wrapper)
    steps = [_scheduled(wrapper) for _ in _steps(wrapper, schedulers, total, length)]
    table = {name: np.array([step[name] for step in steps]) for name in steps[0]}
    # Groups that differ in weight decay alone have the same curve.
    _, columns = np.unique(table['lr'], axis=1, return_index=True)
    columns = np.sort(columns)
    changing = {
        name: values[:, columns if name == 'lr' else slice(1)]
        for name, values in table.items()
        if name == 'lr' or np.ptp(values[:, :1]) > 0
    }
    return Rates(changing, tuple(initial[column] for column in columns), length)


class _Ends(BaseLoop):
    """mmengine asks for a loop before it says where schedules end."""

    def __init__(self) -> None:
        pass

    def run(self) -> None:
        """Nothing runs."""


class _Numbers(Dataset):
    """A data set that has a length only."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return index


def _epoch_length(cfg: Config, dataset_size: int | None, processes: int) -> int:
    loader = cfg.train_dataloader.to_dict()
    loader.update(num_workers=0, persistent_workers=False)
    if dataset_size is not None:
        loader['dataset'] = _Numbers(dataset_size)
    sized = (
        loader['batch_sampler'] if 'batch_size' in (loader.get('batch_sampler') or {}) else loader
    )
    sized['batch_size'] *= processes
    loader.pop('prefetch_factor', None)
    length = len(Runner.build_dataloader(loader, seed=0))
    if not length:
        raise ValueError(
            f'dataset_size={dataset_size} makes no batch of {sized["batch_size"]} images; give '
            'more images or set train_dataloader.batch_size'
        )
    return length


def _one_number_a_group(cfg: Config) -> OptimWrapper:
    MMLogger.get_current_instance().setLevel('WARNING')  # it names every group
    real = build_optim_wrapper(build_model(cfg.to_dict()), cfg.optim_wrapper.to_dict())
    kept = [
        {name: group[name] for name in ('lr', 'weight_decay') if name in group}
        for group in real.optimizer.param_groups
    ]
    groups = [dict(group, params=[torch.nn.Parameter(torch.zeros(1))]) for group in kept]
    momentum = real.optimizer.defaults.get('momentum', 0.0)
    return OptimWrapper(torch.optim.SGD(groups, lr=kept[0]['lr'], momentum=momentum))


def _steps(wrapper: OptimWrapper, schedulers: list, total: int, length: int) -> Iterator[int]:
    for iteration in range(total):
        yield iteration
        wrapper.step()  # without gradients; schedulers want one before them
        for scheduler in schedulers:
            if not scheduler.by_epoch or (iteration + 1) % length == 0:
                scheduler.step()


def _scheduled(wrapper: OptimWrapper) -> Mapping[str, list[float]]:
    groups = wrapper.optimizer.param_groups
    return {name: [group[name] for group in groups] for name in SCHEDULED}
