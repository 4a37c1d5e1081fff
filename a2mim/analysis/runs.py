"""Logs of training runs: reading, curves, learning rates of a config, summaries, times.

A line of a log is a JSON object. In our training lines ``iter`` counts through the run; validation
lines only have ``step``, the epoch (or the iteration of a training by iterations). Lines of the
reference implementation (OpenMixup) have ``mode``, ``epoch``, and ``iter`` counted from the start
of the epoch.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import BaseLoop, Runner

from a2mim.length import AUTO, pretraining_epochs
from a2mim.weights.load_model import build_model

COUNTERS = ('epoch', 'iter', 'step', 'mode')
SCHEDULED = ('lr', 'weight_decay', 'momentum')
LONG = 100  # points; shorter curves have markers
PARTS = '*/vis_data/scalars.json'  # in a work dir of ours
PUBLISHED = '*.log.json'
T = TypeVar('T')


@dataclass(frozen=True)
class RunLog:
    """The log of a whole run.

    Attributes:
        label: The folder of the run, or the name of the file.
        train: Training lines in order; ``step`` counts iterations of the run from 1.
        val: Validation lines in order; ``step`` counts epochs or iterations.
        by_epoch: Whether ``step`` of ``val`` counts epochs.
    """

    label: str
    train: list[dict]
    val: list[dict]
    by_epoch: bool

    @property
    def keys(self) -> list[str]:
        """Names of the logged numbers."""
        found = {
            key
            for line in self.train + self.val
            for key, value in line.items()
            if isinstance(value, int | float)
        }
        return sorted(found - set(COUNTERS))

    def curve(self, key: str) -> tuple[list[int], list[float], bool]:
        """Steps, values, and whether the steps are epochs; training lines take precedence.

        Raises:
            ValueError: If ``key`` is not logged.
        """
        for lines, epochs in ((self.train, False), (self.val, self.by_epoch)):
            found = [(line['step'], line[key]) for line in lines if key in line]
            points = [point for point in found if isinstance(point[1], int | float)]
            if points:
                return [step for step, _ in points], [value for _, value in points], epochs
        raise ValueError(
            f'{self.label} has no key {key!r}; it has {", ".join(self.keys) or "none"}'
        )


def read_run(path: str | Path) -> RunLog:
    """Read the log of a work dir, whose parts are joined, or a single file.

    Steps that a resumed run repeated count once, as in the later part.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob(PARTS))
        if not files:
            raise FileNotFoundError(
                f'{path} is not the work dir of a run: there is no TIME/vis_data/scalars.json in it'
            )
        return _join([_read_part(file) for file in files], path.resolve().name)
    if not path.is_file():
        raise FileNotFoundError(f'there is no log {path}; give a work dir or a log of JSON lines')
    # WORK_DIR/TIME/vis_data/scalars.json: WORK_DIR is the name.
    inside = path.parent.name == 'vis_data'
    label = path.resolve().parents[2].name if inside else path.name.split('.')[0]
    return _join([_read_part(path)], label)


def _read_part(path: Path) -> RunLog:
    lines = [line for line in _json_lines(path) if set(line) & {'step', 'mode'}]
    if not lines:
        raise ValueError(f'{path} has no training or validation lines; is it the log of a run?')
    if any('mode' in line for line in lines):
        try:
            return _published(path.name, lines)
        except KeyError as error:
            raise ValueError(f'{path} has a line of "mode" without {error}') from error
    train = [line for line in lines if 'iter' in line]
    val = [line for line in lines if 'iter' not in line]
    return RunLog(path.name, train, val, any('epoch' in line for line in train))


def _json_lines(path: Path) -> list[dict]:
    try:
        texts = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no log: it is not text ({error})') from error
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            if number == len(texts) > 1:
                break  # the run was killed while writing
            raise ValueError(
                f'{path}, line {number} is not a JSON object: {text[:40]!r}'
            ) from error
        if not isinstance(line, dict):
            raise ValueError(f'{path}, line {number} is not a JSON object: {text[:40]!r}')
        for name in COUNTERS[:3]:
            if not isinstance(line.get(name, 0), int | float):
                raise ValueError(f'{path}, line {number}: {name}={line[name]!r} is not a number')
        lines.append(line)
    return lines


def _published(label: str, lines: Sequence[dict]) -> RunLog:
    train = [line for line in lines if line.get('mode') == 'train']
    # The length of an epoch is not logged: take the last logged iteration.
    length = max((line['iter'] for line in train), default=0)
    train = [{**line, 'step': (line['epoch'] - 1) * length + line['iter']} for line in train]
    val = [{**line, 'step': line['epoch']} for line in lines if line.get('mode') == 'val']
    return RunLog(label, train, val, True)


def _join(parts: Sequence[RunLog], label: str) -> RunLog:
    train, val = {}, {}
    for part in parts:
        if part.train:
            first = part.train[0]
            began = first['epoch'] if part.by_epoch else first['step']
            train = {step: line for step, line in train.items() if step < first['step']}
            val = {step: line for step, line in val.items() if step < began}
        train |= {line['step']: line for line in part.train}
        for line in part.val:
            # A probe and the accuracy of one step are two lines.
            val[line['step']] = {**val.get(line['step'], {}), **line}
    by_epoch = any(part.by_epoch for part in parts)
    order = sorted(train), sorted(val)
    return RunLog(label, [train[step] for step in order[0]], [val[s] for s in order[1]], by_epoch)


def plot_curves(
    figure: Figure,
    runs: Sequence[RunLog],
    keys: Sequence[str],
    legend: Sequence[str] | None = None,
    title: str | None = None,
) -> list[dict[str, object]]:
    """Draw every key of every run that has it, iterations and epochs on separate axes.

    ``legend`` has one text per run and key, keys of the first run first. Returns the points as
    rows of a table: run, key, unit of the step, step, value.
    """
    if legend is not None and len(legend) != len(runs) * len(keys):
        raise ValueError(
            f'{len(legend)} texts of the legend were given, but {len(runs)} run(s) and {len(keys)} '
            f'key(s) make {len(runs) * len(keys)}'
        )
    pairs = [(run, key) for run in runs for key in keys]
    texts = legend or [f'{run.label}: {key}' if len(runs) > 1 else key for run, key in pairs]
    wanted = zip(pairs, texts, strict=True)
    curves = [(*pair, text, *pair[0].curve(pair[1])) for pair, text in wanted if _has(*pair, runs)]
    units = sorted({epochs for *_, epochs in curves})
    axes = dict(zip(units, figure.subplots(len(units), squeeze=False)[:, 0], strict=True))
    rows: list[dict[str, object]] = []
    for run, key, text, steps, values, epochs in curves:
        axes[epochs].plot(steps, values, label=text, marker='.' if len(steps) < LONG else None)
        unit = 'epoch' if epochs else 'iteration'
        for step, value in zip(steps, values, strict=True):
            rows.append(dict(run=run.label, key=key, unit=unit, step=step, value=value))
    for epochs, axis in axes.items():
        names = dict.fromkeys(key for _, key, *_, unit in curves if unit == epochs)
        axis.set(xlabel='epoch' if epochs else 'iteration', ylabel=', '.join(names))
        axis.legend()
    if title:
        figure.suptitle(title)
    return rows


def _has(run: RunLog, key: str, runs: Sequence[RunLog]) -> bool:
    if not any(key in other.keys for other in runs):
        known = sorted({name for other in runs for name in other.keys})
        raise ValueError(f'no log has the key {key!r}; there are {", ".join(known)}')
    return key in run.keys


@dataclass(frozen=True)
class Rates:
    """Scheduled values of an optimizer at every iteration.

    Attributes:
        values: By name, ``lr`` and whatever else changes: (iterations, distinct parameter groups).
        initial: Learning rate of each column before any scheduler.
        epoch_length: Iterations of an epoch.
    """

    values: dict[str, np.ndarray]
    initial: tuple[float, ...]
    epoch_length: int


def read_rates(cfg: Config, dataset_size: int | None = None, processes: int = 1) -> Rates:
    """Step through the schedule of ``cfg`` without a forward pass.

    The model is built to group its parameters as the run does; each group becomes one number.
    ``dataset_size`` None opens the data set to count its images; ``processes`` is the world size.
    """
    for entry in ('param_scheduler', 'optim_wrapper', 'train_dataloader', 'train_cfg'):
        if not cfg.get(entry):
            raise ValueError(f'the config has no {entry}: there is no learning rate to draw')
    length = _epoch_length(cfg, dataset_size, processes)
    epochs = cfg.train_cfg.get('max_epochs')
    if epochs == AUTO:
        epochs, _ = pretraining_epochs(length)
    total = cfg.train_cfg.get('max_iters') or epochs * length
    epochs = epochs or -(-total // length)
    wrapper = _one_number_per_group(cfg)
    initial = tuple(group['lr'] for group in wrapper.optimizer.param_groups)
    run = SimpleNamespace(
        _train_loop=_Loop(), max_epochs=epochs, max_iters=total, train_dataloader=range(length),
        logger=MMLogger.get_current_instance(),
    )  # fmt: skip
    schedulers = Runner._build_param_scheduler(cast(Runner, run), cfg.param_scheduler, wrapper)
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


class _Loop(BaseLoop):
    """mmengine needs a loop to compute the ends of schedules."""

    def __init__(self) -> None:
        pass

    def run(self) -> None:
        """Never called."""


def _epoch_length(cfg: Config, dataset_size: int | None, processes: int) -> int:
    loader = cfg.train_dataloader.to_dict()
    loader.update(num_workers=0, persistent_workers=False)
    if dataset_size is not None:
        loader['dataset'] = range(dataset_size)  # only its length matters
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


def _one_number_per_group(cfg: Config) -> OptimWrapper:
    MMLogger.get_current_instance().setLevel('WARNING')  # every group is logged as INFO
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
        wrapper.step()  # without gradients: schedulers warn without a step before them
        for scheduler in schedulers:
            if not scheduler.by_epoch or (iteration + 1) % length == 0:
                scheduler.step()


def _scheduled(wrapper: OptimWrapper) -> Mapping[str, list[float]]:
    groups = wrapper.optimizer.param_groups
    return {name: [group[name] for group in groups] for name in SCHEDULED}


def find_runs(path: str | Path) -> list[RunLog]:
    """The run at ``path``, or all runs below a folder in the order of their last log."""
    path = Path(path)
    if path.is_file() or any(path.glob(PARTS)):
        return [read_run(path)]
    logs = {file: file for file in path.rglob(PUBLISHED)}
    logs |= {file.parents[2]: file for file in sorted(path.rglob(PARTS))}
    if not logs:
        raise FileNotFoundError(f'there is no log at {path} or in the folders below it')
    by_age = sorted(logs, key=lambda place: logs[place].stat().st_mtime)
    return [read_run(place) for place in by_age]


def median_of_last(run: RunLog, key: str, epochs: int, number: int) -> tuple[float, float]:
    """Median and highest validation value in the last ``number`` of ``epochs`` epochs."""
    values = _validation(run, key)
    last = [value for epoch, value in values.items() if epochs - number < epoch <= epochs]
    if epochs not in values:
        raise ValueError(
            f'{run.label} has {key} of epochs up to {max(values)}, not of epoch {epochs}'
        )
    return float(np.median(last)), max(last)


def high_value(run: RunLog, key: str) -> float:
    """Mean of the highest validation value and the 99th percentile."""
    values = list(_validation(run, key).values())
    return (max(values) + float(np.percentile(values, 99))) / 2


def over_runs(
    runs: Sequence[RunLog], measure: Callable[[RunLog], T]
) -> tuple[list[tuple[RunLog, T]], list[str]]:
    """Runs with their values, and the reasons why others have none; one must have a value."""
    found: list[tuple[RunLog, T]] = []
    errors: list[ValueError] = []
    for run in runs:
        try:
            found.append((run, measure(run)))
        except ValueError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found, [f'left out: {error}' for error in errors]


def _validation(run: RunLog, key: str) -> dict[int, float]:
    found = {line['step']: line[key] for line in run.val if key in line}
    if not found:
        known = sorted({name for line in run.val for name in line} - {'step', 'epoch', 'mode'})
        raise ValueError(
            f'{run.label} has no validation of {key!r}; it has {", ".join(known) or "none"}'
        )
    return found


@dataclass(frozen=True)
class TrainTime:
    """Seconds per iteration.

    Attributes:
        mean, std: Over all logged times, each of which is a mean since the previous one.
        epochs: Mean of each epoch, by its number.
    """

    mean: float
    std: float
    epochs: dict[int, float]

    @property
    def slowest(self) -> int:
        """Number of the slowest epoch."""
        return max(self.epochs, key=self.epochs.__getitem__)

    @property
    def fastest(self) -> int:
        """Number of the fastest epoch."""
        return min(self.epochs, key=self.epochs.__getitem__)

    @property
    def std_of_epochs(self) -> float:
        """Standard deviation of the means of the epochs."""
        return float(np.std(list(self.epochs.values())))


def train_time(run: RunLog, *, include_outliers: bool = False) -> TrainTime:
    """Times of ``run``, without the first of each epoch, which includes starting the workers.

    An epoch with one logged time keeps it. A training by iterations is one epoch.
    """
    times: dict[int, list[float]] = defaultdict(list)
    for line in run.train:
        if 'time' in line:
            times[line.get('epoch', 1)].append(line['time'])
    if not times:
        raise ValueError(f'{run.label} has no key "time" in its training lines')
    if not include_outliers:
        times = {epoch: values[1:] or values for epoch, values in times.items()}
    everything = np.concatenate(list(times.values()))
    epochs = {epoch: float(np.mean(values)) for epoch, values in times.items()}
    return TrainTime(float(everything.mean()), float(everything.std()), epochs)
