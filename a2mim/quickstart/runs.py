"""The runs of the quick start: each trains a config in this process, and notes what came out.

A run has a folder. What it found stands in ``result.json``, and a run that has it is not repeated;
one that was stopped resumes from its checkpoint.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import torch
from mmengine import Config
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from a2mim.datasets import channels_last_collate
from a2mim.engine.command_line import add_common_options, add_train_options, one_line_errors
from a2mim.engine.history import curve_points, loss_curves
from a2mim.engine.launch import FirstIteration, build_train_runner
from a2mim.engine.mmengine_fixes import strict_loading
from a2mim.engine.processes import WorkDirLock
from a2mim.evaluation.feature_probe import extract_features, knn_accuracy, linear_probe_accuracy
from a2mim.quickstart.table import SCRATCH
from a2mim.registry import DATASETS
from a2mim.weights.config_files import read_config
from a2mim.weights.files import write_atomically
from a2mim.weights.load_model import load_model
from a2mim.weights.released import config_path
from a2mim.weights.safe_load import reading

RESULT = 'result.json'
LAST = 20  # steps that the training loss at the end is a mean of
NEIGHBOURS = 5


@dataclass(frozen=True)
class Network:
    """A network that is pre-trained and fine-tuned on digits.

    Args:
        name: For people.
        label: In the names of its configs.
        rates: Learning rate of fine-tuning by start. ``--choose-rates`` measures all of
            ``command.GRID`` on the validation digits, with seeds that the table does not use.
    """

    name: str
    label: str
    rates: dict[str, float]

    def config(self, kind: str) -> str:
        """Of ``kind`` 'a2mim', 'simmim' or 'finetune'."""
        schedule = '1xb20-cos-300e' if kind == 'finetune' else '1xb128-cos-20e'
        return f'quickstart/{kind}_{self.label}_{schedule}_digits-16px'


NETWORKS = (
    Network('ViT', 'vit64x4', dict(scratch=1e-3, simmim=1e-3, a2mim=1e-3)),
    Network('ResNet', 'resnet10t', dict(scratch=3e-3, simmim=3e-3, a2mim=3e-3)),
)
LOOK = 'quickstart/a2mim_resnet10t_1xb32-cos-6e_photos-64px'

console: TextIO | None = None  # where a child process reports while its log goes to a file


class Clock:
    """How long something takes: by the wall, and of the processor."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """``seconds`` and ``cpu_seconds`` since the start."""
        wall, cpu = self._started
        return dict(seconds=time.perf_counter() - wall, cpu_seconds=time.process_time() - cpu)


def say(text: str) -> None:
    """Tell the person who started the command."""
    stream = console or sys.stdout
    stream.write(f'{text}\n')
    stream.flush()


def name_of(folder: Path) -> str:
    """Of a run, for people: seed, network and start."""
    return '/'.join(folder.parts[-3:])


def arguments(config: str, folder: Path, seed: int, *more: str) -> argparse.Namespace:
    """The options of ``tools/train.py``, of a run that resumes where it was stopped."""
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    add_train_options(parser)
    words = ['--work-dir', str(folder), '--seed', str(seed), '--resume', 'auto', *more]
    return parser.parse_args([str(config_path(config)), *words])


@contextmanager
def trained(args: argparse.Namespace) -> Iterator[Runner]:
    """Train as ``tools/train.py`` does; the runner has finished, and its folder is locked."""
    training = FirstIteration()
    with one_line_errors(training), strict_loading(), reading(args), WorkDirLock() as lock:
        runner = build_train_runner(args, lock)
        runner.register_hook(training)
        runner.train()
        yield runner


def last_loss(runner: Runner) -> float:
    """Mean of the loss over the last steps of a run."""
    _, values = curve_points(loss_curves(runner.message_hub)['loss'])
    return float(values[-LAST:].mean())


def noted(folder: Path) -> dict | None:
    """What the run of ``folder`` found, once it is complete."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None


def note(folder: Path, found: dict) -> dict:
    """Write the result of a complete run."""
    text = json.dumps(found, indent=2).encode()
    write_atomically(folder / RESULT, lambda file: file.write(text), len(text))
    return found


def pretrain(config: str, folder: Path, seed: int) -> Path:
    """Pre-train, unless it is done; the checkpoint."""
    if noted(folder) is None:
        clock = Clock()
        with trained(arguments(config, folder, seed)) as runner:
            found = dict(loss=last_loss(runner), **clock.read())
        note(folder, found)
        say(f'  {name_of(folder)}: pre-trained in {found["seconds"]:.0f} s')
    return folder / 'latest.pth'


def classify(
    network: Network,
    folder: Path,
    seed: int,
    weights: Path | None,
    rate: float,
    split: str = 'test',
) -> dict:
    """Fine-tune from ``weights``, or from scratch, and measure on ``split``.

    Raises:
        ValueError: If the folder holds the result of another rate.
    """
    found = noted(folder)
    if found is not None and found['rate'] != rate:
        raise ValueError(
            f'{folder} was trained with a learning rate of {found["rate"]:g}, not {rate:g}: give '
            'another --work-dir'
        )
    if found is not None:
        return found
    clock = Clock()
    options = [
        f'optim_wrapper.optimizer.lr={rate}',
        f'test_dataloader.dataset.source.split={split}',
    ]
    start = [] if weights is None else ['--pretrained', str(weights)]
    args = arguments(network.config('finetune'), folder, seed, *start, '--cfg-options', *options)
    with trained(args) as runner:
        accuracy = runner.test()['accuracy/top1']
        found = dict(seed=seed, rate=rate, accuracy=accuracy, loss=last_loss(runner))
        found |= clock.read()
    say(
        f'  {name_of(folder)}: {accuracy:.1f} % of {split}, training loss '
        f'{found["loss"]:.2f}, {found["seconds"]:.0f} s'
    )
    return note(folder, found)


def prove(network: Network, folder: Path, seed: int) -> None:
    """All runs of one network with one seed, which changes weights, label draw and order."""
    weights: dict[str, Path | None] = {SCRATCH: None}
    for method in ('simmim', 'a2mim'):
        weights[method] = pretrain(network.config(method), folder / method, seed)
    for start, checkpoint in weights.items():
        place = folder / f'finetune_{start}'
        found = classify(network, place, seed, checkpoint, network.rates[start])
        if 'knn' not in found:
            known = checkpoint or cast(Path, weights['a2mim'])
            torch.manual_seed(seed)
            model = load_model(str(known), pretrained=checkpoint is not None)
            note(place, {**found, **probe(model, network, seed)})


def probe(model: nn.Module, network: Network, seed: int) -> dict[str, float]:
    """Accuracies of frozen features with the labels of fine-tuning, in per cent."""
    cfg = read_config(str(config_path(network.config('finetune'))))
    test = cfg.test_dataloader.dataset
    few = {**cfg.train_dataloader.dataset.source, 'seed': seed}
    labelled = Config({**test, 'source': few})
    features = [
        extract_features(model, loader(entry)) for entry in (labelled.to_dict(), test.to_dict())
    ]
    neighbours = min(NEIGHBOURS, len(features[0][0]))
    return dict(
        knn=knn_accuracy(*features, neighbours=neighbours),
        linear=linear_probe_accuracy(*features),
    )


def loader(dataset: dict) -> DataLoader:
    """Batches in the order of the data set."""
    built = DATASETS.build(dataset)
    return DataLoader(built, batch_size=250, collate_fn=channels_last_collate)


def mean_accuracy(found: Sequence[dict]) -> float:
    """Of several results."""
    return float(np.mean([one['accuracy'] for one in found]))
