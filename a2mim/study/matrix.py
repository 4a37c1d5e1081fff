"""The matrix of a study: networks × starts × label counts × seeds, and the runs that it needs.

``matrix.yml`` lists for each network a config of pre-training and one of fine-tuning, and for each
start what it changes in the former; a start without changes is ``{}``, one without pre-training is
empty. STEM in a value is the module that the network names as ``stem``. A start with ``configs``
has a config of pre-training of its own for each network there, and none for others. The learning
rate of fine-tuning is chosen for each network, start and label count by runs of their own, with
other seeds and on validation images, or stands under ``chosen`` if it was chosen before.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import yaml

from a2mim.weights.config_files import read_config
from a2mim.weights.released import config_path

MATRIX = 'matrix.yml'
PRETRAIN, RATE, FINAL = 'pretrain', 'rate', 'final'
AXES = ('network', 'start', 'labels', 'seed')
KEYS = {'networks', 'starts', 'labels', 'seeds', 'rates', 'rate_seeds'}
OPTIONAL = {'options', 'chosen'}
NETWORK_KEYS = {'pretrain', 'finetune', 'stem'}
# The entries of a config by which its accuracy changes.
DEFINING = ('model', 'optim_wrapper', 'param_scheduler', 'randomness', 'train_cfg')
DEFINING += ('train_dataloader', 'val_dataloader', 'test_dataloader')


@dataclass(frozen=True)
class Job:
    """One training of a study.

    Attributes:
        kind: 'pretrain'; 'rate', a fine-tuning evaluated on validation; or 'final', one on test.
        labels: Labels per class, a key of the matrix; None in pre-training.
        rate: Learning rate, of a 'rate' alone: a final run takes the chosen one.
    """

    kind: str
    network: str
    start: str
    seed: int
    labels: str | None = None
    rate: float | None = None

    @property
    def name(self) -> str:
        """Its name in the results, unique in a study."""
        parts = [self.kind, self.network, self.start]
        parts += [f'labels{self.labels}'] if self.labels else []
        parts += [f'rate{self.rate:g}'] if self.rate else []
        return '.'.join([*parts, f'seed{self.seed}'])


@dataclass(frozen=True)
class Study:
    """A matrix with its configs; ``read_study`` makes it.

    Attributes:
        folder: Of ``matrix.yml`` and of the configs.
        networks: Config of pre-training, config of fine-tuning and stem of each network.
        starts: Options of pre-training of each start, None without one.
        own_configs: Configs of pre-training by network, of the starts that have their own.
        labels: Options of fine-tuning of each label count.
        options: Options of all runs, by 'pretrain' and 'finetune'.
        chosen: Rates that were chosen before, by network and start; no runs choose them.
        epochs: Of pre-training and of each label count, where they are not those of the configs.
        most_seeds: How many of the seeds a label count takes, where not all.
    """

    folder: Path
    networks: dict[str, dict[str, str]]
    starts: dict[str, dict | None]
    labels: dict[str, dict]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    rate_seeds: tuple[int, ...]
    own_configs: dict[str, dict[str, str]] = field(default_factory=dict)
    options: dict[str, dict] = field(default_factory=dict)
    chosen: dict[str, dict[str, float]] = field(default_factory=dict)
    most_seeds: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)

    def jobs(self) -> list[Job]:
        """All runs, network by network: those that choose rates, then seed by seed."""
        found: dict[Job, None] = {}
        for network in self.networks:
            found |= dict.fromkeys(self.choosing(network))
            for cell in self.cells(self.seeds, network):
                found |= dict.fromkeys(self.with_start(cell))
        return list(found)

    def choosing(self, network: str | None = None) -> list[Job]:
        """The runs that choose rates, of one network or of all, with their pre-trainings."""
        found: dict[Job, None] = {}
        for cell in self.cells(self.rate_seeds[:1], network):
            for job in self.rate_jobs(cell):
                found |= dict.fromkeys(self.with_start(job))
        return list(found)

    def cells(self, seeds: Sequence[int], network: str | None = None) -> Iterator[Job]:
        """The final runs, of one network or of all; all of a seed before those of the next."""
        for seed, name in product(seeds, [network] if network else self.networks):
            for start, labels in product(self.starts_of(name), self.labels):
                if seed not in self.seeds[self.most_seeds.get(labels, len(self.seeds)) :]:
                    yield Job(FINAL, name, start, seed, labels)

    def starts_of(self, network: str) -> list[str]:
        """The starts that a network has."""
        own = self.own_configs
        return [name for name in self.starts if name not in own or network in own[name]]

    def rate_jobs(self, job: Job) -> list[Job]:
        """The runs whose accuracies choose the rate of a final run; none if there is no choice."""
        if self.chosen or len(self.rates) == 1:
            return []
        return [
            replace(job, kind=RATE, seed=seed, rate=rate)
            for seed, rate in product(self.rate_seeds, self.rates)
        ]

    def with_start(self, job: Job) -> Iterator[Job]:
        """The pre-training that ``job`` starts from, if any, and ``job``."""
        pretraining = self.pretraining(job)
        if pretraining is not None:
            yield pretraining
        yield job

    def pretraining(self, job: Job) -> Job | None:
        """The run whose weights ``job`` starts from."""
        if job.kind == PRETRAIN or self.starts[job.start] is None:
            return None
        return Job(PRETRAIN, job.network, job.start, job.seed)

    def config(self, job: Job) -> Path:
        """The config of a run."""
        if job.kind != PRETRAIN:
            return self.folder / self.networks[job.network]['finetune']
        configs = self.own_configs.get(job.start, {})
        return self.folder / configs.get(job.network, self.networks[job.network]['pretrain'])

    def changes(self, job: Job) -> dict[str, object]:
        """What a run changes in its config, by dotted name, but for the chosen rate."""
        if job.kind == PRETRAIN:
            stem = self.networks[job.network]['stem']
            start = self.starts[job.start] or {}
            chosen = {key: stem if value == 'STEM' else value for key, value in start.items()}
            return {**self.options.get('pretrain', {}), **chosen, **self._length(PRETRAIN)}
        rate = {} if job.rate is None else {'optim_wrapper.optimizer.lr': job.rate}
        labels = {**self.labels[str(job.labels)], **self._length(str(job.labels))}
        return {**self.options.get('finetune', {}), **labels, **rate}

    def _length(self, part: str) -> dict[str, object]:
        """Options that set the length of a training, where it was measured."""
        if part not in self.epochs:
            return {}
        epochs = self.epochs[part]
        options: dict[str, object] = {'train_cfg.max_epochs': epochs}
        options |= {} if part == PRETRAIN else {'train_cfg.val_begin': epochs + 1}
        return {**options, 'param_scheduler.warmup': min(2, epochs // 2)}

    def config_hash(self, job: Job) -> str:
        """12 hexadecimal digits of all that defines a run but for seed and rate."""
        text = self._texts[self.config(job)] + json.dumps(self.changes(job), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def identity(self) -> dict[str, str]:
        """What results depend on, part by part; but for the seeds, and for a measured length."""
        plain = replace(self, epochs={})
        seed = self.rate_seeds[0]
        found = {'rates': f'{self.rates} by seeds {self.rate_seeds}'}
        for network in self.networks:
            for start in self.starts_of(network):
                job = Job(PRETRAIN, network, start, seed)
                if self.starts[start] is not None:
                    found[job.name] = plain.config_hash(job)
                if self.chosen:
                    found[f'rate.{network}.{start}'] = str(self.chosen[network][start])
            for labels in self.labels:
                found[f'finetune.{network}.{labels}'] = plain.config_hash(
                    Job(FINAL, network, next(iter(self.starts)), seed, labels)
                )
        return found

    @cached_property
    def _texts(self) -> dict[Path, str]:
        """The defining entries of each config, as text."""
        names = {net[part] for net in self.networks.values() for part in ('pretrain', 'finetune')}
        names |= {name for configs in self.own_configs.values() for name in configs.values()}
        paths = [self.folder / name for name in sorted(names)]
        contents = {path: read_config(path).to_dict() for path in paths}
        return {
            path: json.dumps({key: cfg.get(key) for key in DEFINING}, sort_keys=True)
            for path, cfg in contents.items()
        }

    def selected(self, only: Mapping[str, str]) -> Callable[[Job], bool]:
        """Whether a final run has the values of ``only``, by axis."""
        for axis, value in only.items():
            if axis not in AXES:
                raise ValueError(f'--only {axis}={value}: the axes are {", ".join(AXES)}')
            known = {str(getattr(cell, axis)) for cell in self.cells(self.seeds)}
            if value not in known:
                raise ValueError(f'--only {axis}={value}: the study has {", ".join(sorted(known))}')
        return lambda job: all(str(getattr(job, axis)) == only[axis] for axis in only)

    def needed(self, only: Mapping[str, str]) -> list[Job]:
        """The runs of the cells that ``only`` selects, with all that these need, in order."""
        chosen = self.selected(only)
        wanted: set[Job] = set()
        for cell in filter(chosen, self.cells(self.seeds)):
            for job in [cell, *self.rate_jobs(cell)]:
                wanted |= set(self.with_start(job))
        return [job for job in self.jobs() if job in wanted]


def find_study(name: str) -> Path:
    """The folder of a study: a path, or its name below ``configs/study``."""
    if Path(name, MATRIX).is_file():
        return Path(name)
    return config_path('study/_base_/runtime').parents[1] / name


def read_study(folder: Path, seeds: Sequence[int] | None = None) -> Study:
    """Read ``folder/matrix.yml``.

    Args:
        folder: Of the study.
        seeds: In place of those of the matrix.

    Raises:
        FileNotFoundError: If there is no matrix, or a config is missing.
        ValueError: If an entry is missing, unknown or empty, or rates are chosen with seeds whose
            accuracies are reported.
    """
    path = folder / MATRIX
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing: a study is a folder with a {MATRIX}')
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    if not isinstance(content, dict) or content.keys() - OPTIONAL != KEYS:
        found = sorted(content) if isinstance(content, dict) else content
        raise ValueError(f'{path} has {found}; it must have {sorted(KEYS)}')
    empty = [key for key in KEYS if not content[key]]
    if empty:
        raise ValueError(f'{path}: {empty[0]} is empty')
    labels = {str(count): dict(options or {}) for count, options in content['labels'].items()}
    starts = {
        name: None if options is None else {**options}
        for name, options in content['starts'].items()
    }
    own = {name: each.pop('configs') for name, each in starts.items() if each and 'configs' in each}
    study = Study(
        folder=folder,
        networks=content['networks'],
        starts=starts,
        own_configs=own,
        most_seeds={
            count: options.pop('seeds') for count, options in labels.items() if 'seeds' in options
        },
        labels=labels,
        seeds=tuple(content['seeds'] if seeds is None else seeds),
        rates=tuple(float(rate) for rate in content['rates']),
        rate_seeds=tuple(content['rate_seeds']),
        options=content.get('options') or {},
        chosen=content.get('chosen') or {},
    )
    shared = set(study.seeds) & set(study.rate_seeds)
    if shared:
        raise ValueError(
            f'seeds {sorted(shared)} choose learning rates and are reported, too; give other seeds'
        )
    for name, network in study.networks.items():
        if network.keys() != NETWORK_KEYS:
            raise ValueError(
                f'{path}: network {name} has {sorted(network)}, not {sorted(NETWORK_KEYS)}'
            )
        needed = study.starts_of(name)
        if study.chosen and {*needed} != study.chosen.get(name, {}).keys():
            raise ValueError(
                f'{path}: chosen must have a rate for each of {sorted(needed)} of {name}'
            )
        configs = [network[part] for part in ('pretrain', 'finetune')]
        for config in [*configs, *(own[start][name] for start in needed if start in own)]:
            if not (folder / config).is_file():
                raise FileNotFoundError(f'{path}: network {name}: there is no {folder / config}')
    for start, configs in own.items():
        if unknown := sorted(configs.keys() - study.networks.keys()):
            raise ValueError(
                f'{path}: start {start} has a config for {unknown[0]}; the networks are '
                f'{", ".join(study.networks)}'
            )
    return study
