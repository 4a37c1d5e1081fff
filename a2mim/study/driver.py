"""Run what a study lacks, one run after the other, in any number of processes.

A run is ``tools/train.py`` on a config with options, then one evaluation. Processes share a folder:
each takes the next run that nobody has and whose inputs are there. A process that is killed loses
nothing: its run is resumed from its last checkpoint, bit for bit, by whichever process comes next.
"""

import argparse
import logging
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from mmengine import Config
from mmengine.device import get_device
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import Runner, ValLoop

from a2mim.engine.command_line import add_common_options, add_train_options
from a2mim.engine.launch import build_train_runner
from a2mim.engine.mmengine_fixes import strict_loading
from a2mim.engine.processes import WorkDirLock
from a2mim.errors import NotFiniteError, NotFiniteStateError
from a2mim.evaluation.feature_probe import extract_features, knn_accuracy, linear_probe_accuracy
from a2mim.models.classifier import ImageClassifier
from a2mim.registry import MODELS
from a2mim.study.matrix import FINAL, PRETRAIN, RATE, Job, Study
from a2mim.study.results import (
    FAILED,
    FINISHED,
    RESULTS,
    append_result,
    check_folder,
    claim,
    read_results,
)
from a2mim.weights.files import save_file
from a2mim.weights.names import find_backbone
from a2mim.weights.safe_load import load_file

LAST = 20  # steps whose mean loss is the final training loss
WAIT = 2.0  # seconds until a process looks again for a run whose inputs others make
ACCURACY = 'accuracy/top1'
NEIGHBOURS = 5


def run_study(
    study: Study,
    folder: Path,
    jobs: Sequence[Job] | None = None,
    data_root: str | None = None,
    tell: Callable[[str], object] = lambda line: None,
    seconds: float = math.inf,
) -> None:
    """Run all that is not done yet, and return when every run has its line in the results.

    Args:
        study: The matrix.
        folder: Of the results, shared by all processes.
        jobs: Runs to do, with those that they need, in this order; all by default.
        data_root: Folder of the images, for studies that read files.
        tell: Gets a line for each finished run.
        seconds: After so many no further run begins, and the function returns.

    Raises:
        ValueError: If the folder belongs to another matrix.
        SystemExit: If the process is to stop; the run in progress is saved.
    """
    check_folder(folder, study)
    jobs, begin = study.jobs() if jobs is None else jobs, time.monotonic()
    while time.monotonic() - begin < seconds:
        results = read_results(folder / RESULTS)
        pending = [job for job in jobs if job.name not in results]
        if not pending:
            return
        ready = [job for job in pending if is_ready(study, job, results)]
        line = next(filter(None, (take(study, folder, job, data_root) for job in ready)), None)
        if line is None:
            time.sleep(WAIT)
        else:
            tell(line)


def is_ready(study: Study, job: Job, results: Mapping[str, dict]) -> bool:
    """Whether the runs that ``job`` needs have their lines."""
    needed = [*study.with_start(job)][:-1]
    needed += study.rate_jobs(job) if job.kind == FINAL else []
    return all(each.name in results for each in needed)


def take(study: Study, folder: Path, job: Job, data_root: str | None) -> str | None:
    """Run ``job`` unless another process does or has done it; a line about it if this one did."""
    with claim(folder, job) as mine:
        results = read_results(folder / RESULTS) if mine else {}
        if not mine or job.name in results:
            return None
        work_dir = folder / 'runs' / job.name
        started, cpu = time.perf_counter(), time.process_time()
        found = attempt(study, folder, job, data_root)
        record = {
            **{'run': job.name, 'kind': job.kind, 'network': job.network, 'start': job.start},
            **{'labels': job.labels, 'seed': job.seed, **found},
            'seconds': round(time.perf_counter() - started, 1),
            'cpu_seconds': round(time.process_time() - cpu, 1),
            **{'config': study.config_hash(job), 'commit': commit()},
        }
        append_result(folder / RESULTS, record)
        shutil.rmtree(work_dir, ignore_errors=True)
    return f'{record["status"]} {job.name}: {summary(record)}'


def attempt(study: Study, folder: Path, job: Job, data_root: str | None) -> dict[str, object]:
    """What the record of a run says about how it ended."""
    results, before = read_results(folder / RESULTS), study.pretraining(job)
    if before is not None and results[before.name]['status'] == FAILED:
        return failure(f'{before.name} failed')
    rate = chosen_rate(study, job, results) if job.kind == FINAL else job.rate
    if job.kind == FINAL and rate is None:
        return failure('no learning rate trained')
    weights = folder / 'weights'
    trained = None if before is None else weights / f'{before.name}.pth'
    words = command(study, job, rate, trained, data_root)
    work_dir = folder / 'runs' / job.name
    try:
        found = train(words, work_dir, job.kind)
    except (NotFiniteError, NotFiniteStateError) as error:
        return failure(str(error))
    if not math.isfinite(found['train_loss']):
        return failure(f'the final training loss is {found["train_loss"]}')
    if job.kind == PRETRAIN:
        weights.mkdir(exist_ok=True)
        backbone = find_backbone(load_file(work_dir / 'latest.pth'))
        save_file(backbone.state, weights / f'{job.name}.pth')
    return dict(status=FINISHED, rate=rate, **found)


def failure(reason: str) -> dict[str, object]:
    """The entries of a run without a result."""
    return dict(status=FAILED, reason=reason)


def chosen_rate(study: Study, job: Job, results: Mapping[str, dict]) -> float | None:
    """The rate with the best mean accuracy on validation, of equals the lower; None if all failed.

    A rate that failed with one of the seeds is not chosen; of a single rate there is no choice.
    """
    if study.chosen:
        return study.chosen[job.network][job.start]
    if len(study.rates) == 1:
        return study.rates[0]
    found: dict[float, list[dict]] = {}
    for each in study.rate_jobs(job):
        found.setdefault(each.rate or 0, []).append(results[each.name])
    means = {
        rate: sum(record['accuracy'] for record in records) / len(records)
        for rate, records in found.items()
        if all(record['status'] == FINISHED for record in records)
    }
    return max(sorted(means), key=means.__getitem__, default=None)


def command(
    study: Study, job: Job, rate: float | None, weights: Path | None, data_root: str | None
) -> list[str]:
    """The words of ``tools/train.py`` that train ``job``, but for its work dir."""
    changes = study.changes(job)
    if job.kind != PRETRAIN and rate is not None:
        changes['optim_wrapper.optimizer.lr'] = rate
    options = [f'{key}={value!r}' for key, value in changes.items()]
    return [
        *[str(study.config(job)), '--seed', str(job.seed), '--no-preflight'],
        *(['--pretrained', str(weights)] if weights else []),
        *(['--data-root', data_root] if data_root else []),
        *(['--cfg-options', *options] if options else []),
    ]


def train(words: Sequence[str], work_dir: Path, kind: str) -> dict[str, Any]:
    """Train to the end, from the last checkpoint if there is one, and evaluate.

    Returns:
        ``steps``, ``train_loss`` and, after fine-tuning, ``accuracy`` in percent and its ``split``;
        after a final one also ``linear`` and ``knn``.
    """
    with start(words, work_dir) as runner:
        runner.train()
        found = {**ending(runner), **evaluate(runner, kind)}
        return found | (probe(runner.cfg) if kind == FINAL else {})


@contextmanager
def start(words: Sequence[str], work_dir: Path) -> Iterator[Runner]:
    """The runner of ``tools/train.py`` with these words, whose work dir is locked in the block."""
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    add_train_options(parser)
    args = parser.parse_args([*words, '--work-dir', str(work_dir), '--resume', 'auto'])
    with strict_loading(), WorkDirLock() as lock:
        runner = build_train_runner(args, lock)
        quiet(runner)
        try:
            yield runner
        finally:
            release(runner)


def ending(runner: Runner) -> dict[str, Any]:
    """Steps, and the mean training loss over the last of them."""
    loss = runner.message_hub.get_scalar('train/loss').mean(LAST)
    return dict(steps=runner.iter, train_loss=float(loss))


def evaluate(runner: Runner, kind: str) -> dict[str, Any]:
    """Accuracy on test or, to choose a rate, on validation alone."""
    if kind == PRETRAIN:
        return {}
    metrics = cast(ValLoop, runner.val_loop).run() if kind == RATE else runner.test()
    return dict(split='val' if kind == RATE else 'test', accuracy=metrics[ACCURACY])


def probe(cfg: Config) -> dict[str, float]:
    """Accuracy in percent, on test, of the features that a fine-tuning starts from.

    Returns:
        ``linear`` and ``knn``, which both learn from the labels of the fine-tuning, uncropped.
    """
    torch.manual_seed(cfg.randomness.seed)
    model = cast(ImageClassifier, MODELS.build(cfg.model))
    model.init_weights()
    test = cfg.test_dataloader.to_dict()
    dataset = {**test['dataset'], 'source': cfg.train_dataloader.dataset.source.to_dict()}
    known, unknown = [
        extract_features(model.to(get_device()), Runner.build_dataloader(loader))
        for loader in ({**test, 'dataset': dataset}, test)
    ]
    neighbours = min(NEIGHBOURS, len(known[0]))
    return dict(
        linear=linear_probe_accuracy(known, unknown),
        knn=knn_accuracy(known, unknown, neighbours=neighbours),
    )


def quiet(runner: Runner) -> None:
    """Keep the log of a run in its file."""
    for handler in runner.logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)


def release(runner: Runner) -> None:
    """Close what a run leaves open: a study has hundreds in one process."""
    for handler in [*runner.logger.handlers]:
        handler.close()
    name = runner.experiment_name
    for kept in (MMLogger, MessageHub, type(runner.visualizer)):
        kept._instance_dict.pop(name, None)


def summary(record: Mapping[str, Any]) -> str:
    """The end of a line of progress."""
    if record['status'] == FAILED:
        return record['reason']
    accuracy = f'accuracy {record["accuracy"]:.1f}, ' if 'accuracy' in record else ''
    return f'{accuracy}loss {record["train_loss"]:.3f}, {record["cpu_seconds"]:.0f} s'


def commit() -> str:
    """The commit of this checkout, with a plus if files differ from it; empty outside of git."""
    folder = Path(__file__).parent
    words = ['git', '-C', str(folder), 'describe', '--always', '--abbrev=12', '--dirty=+']
    found = subprocess.run([*words, '--exclude=*'], capture_output=True, text=True, check=False)
    return found.stdout.strip()
