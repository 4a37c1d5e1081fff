"""Fit a study into a time: time some steps, shorten all trainings alike, start nothing too late."""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from a2mim.study.driver import command, start
from a2mim.study.matrix import FINAL, PRETRAIN, Job, Study
from a2mim.weights.files import write_atomically

FILE = 'budget.json'
STEPS, UNTIMED = 50, 10  # steps to time, and those of them in which memory is taken
SHARE = 0.85  # of the time that training may take: the rest is for starts and evaluation


class _TimedError(Exception):
    """Ends a run once its steps are timed."""


class StepTimer(Hook):
    """Stop after ``STEPS`` steps, or as many as a training has, and tell the seconds of one."""

    priority = 'LOWEST'
    only_looks = True
    begin = seconds = 0.0

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Count, and leave.

        Raises:
            _TimedError: After the last step.
        """
        done, last = runner.iter + 1, min(STEPS, runner.max_iters)
        untimed = min(UNTIMED, last - 1)
        if done not in (untimed, last) and untimed:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if done == last:
            self.seconds = (time.perf_counter() - self.begin) / max(1, last - untimed)
            raise _TimedError
        self.begin = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        """Begin with the first step where there is one alone."""
        self.begin = time.perf_counter()


def fit_budget(study: Study, folder: Path, seconds: float, data_root: str | None) -> Study:
    """The study with fewer epochs, if need be, so that its first network fits into ``seconds``.

    The numbers of epochs are measured once and kept in the folder: a study that is resumed has
    those with which it began. Further networks train as long, and start while there is time.

    Raises:
        ValueError: If ``seconds`` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f'--budget {seconds:g} must be a positive number of seconds')
    if not (folder / FILE).is_file():
        network = next(iter(study.networks))
        timed = {part: time_part(study, network, part, folder, data_root) for part in parts(study)}
        jobs = [job for job in study.jobs() if job.network == network]
        whole = sum(timed[part_of(job)]['seconds'] for job in jobs)
        factor = min(1.0, SHARE * seconds / whole)
        epochs = {part: max(1, int(factor * each['epochs'])) for part, each in timed.items()}
        text = json.dumps(dict(epochs=epochs, timed=timed, seconds=seconds), indent=2) + '\n'
        write_atomically(folder / FILE, lambda file: file.write(text.encode()))
    return with_budget(study, folder)


def with_budget(study: Study, folder: Path) -> Study:
    """The study with the epochs that its folder was begun with, if these were measured."""
    path = folder / FILE
    if not path.is_file():
        return study
    return replace(study, epochs=json.loads(path.read_text(encoding='utf-8'))['epochs'])


def parts(study: Study) -> list[str]:
    """What differs in length: pre-training, and fine-tuning with each label count."""
    return [PRETRAIN, *study.labels]


def part_of(job: Job) -> str:
    """The part of a run."""
    return PRETRAIN if job.kind == PRETRAIN else str(job.labels)


def time_part(
    study: Study, network: str, part: str, folder: Path, data_root: str | None
) -> Mapping[str, float]:
    """Seconds of a whole training, by those of its first steps, and its epochs."""
    begin = next(name for name, changes in study.starts.items() if changes is not None)
    if part == PRETRAIN:
        job = Job(PRETRAIN, network, begin, study.rate_seeds[0])
    else:
        job = Job(FINAL, network, begin, study.rate_seeds[0], part)
    work_dir, timer = folder / 'timing', StepTimer()
    with start(command(study, job, None, None, data_root), work_dir) as runner:
        runner.register_hook(timer)
        with suppress(_TimedError):
            runner.train()
        loop = cast(EpochBasedTrainLoop, runner.train_loop)
        found = dict(seconds=timer.seconds * loop.max_iters, epochs=loop.max_epochs)
    shutil.rmtree(work_dir)
    return found
