"""Kill a run with SIGKILL repeatedly, resume it, and compare it with the undisturbed run.

Every other kill falls within the write of a checkpoint, the others at any moment. After each one
the newest intact checkpoint must be at least as far as the previous one, ``latest.pth`` and
``last_checkpoint`` must name an intact file, and the run is resumed from the newest with
``--resume auto``. When it has finished, all that its last checkpoint holds of weights,
average, optimiser and schedules, and every loss that any of its parts logged, must equal the
undisturbed run's bit for bit; then the next run begins.

    python tools/reliability/kill_and_resume.py --kills 200 --out kills.json

Linux and macOS. SIGKILL loses what a process has, not what the system has; a power cut would.
"""

import argparse
import importlib.util
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from mmengine import Config
from sudden_death import choose_death, count_steps, die_within_a_write, run_forked

import a2mim.datasets
import a2mim.evaluation
import a2mim.models  # noqa: F401, what a run would import by itself, in each fork anew
from a2mim.engine.checkpointing import newest_checkpoint
from a2mim.weights.safe_load import load_file

HERE = Path(__file__).resolve().parent
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


def load_train_tool() -> ModuleType:
    """``tools/train.py`` as a module."""
    spec = importlib.util.spec_from_file_location('train_tool', HERE.parent / 'train.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def differing(one: object, other: object, name: str = '') -> list[str]:
    """Names of the entries of two nested states that are not equal to the last bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f'{name} (keys)']
        return [n for key in one for n in differing(one[key], other[key], f'{name}.{key}')]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [n for key, pair in pairs for n in differing(*pair, f'{name}.{key}')]
    both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return [] if (torch.equal(one, other) if both else one == other) else [name]


def logged_losses(work_dir: Path) -> list[tuple[int, float]]:
    """Iteration and loss of every whole line that any part of the run logged."""
    losses = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            if line.endswith('}'):  # a kill may cut the last one
                entry = json.loads(line)
                losses.append((entry['step'], entry['loss']))
    return losses


class Experiment:
    """The undisturbed run, and the runs that are killed.

    Args:
        folder: Where they work.
        seed: Of the deaths; the training has its own.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.main = load_train_tool().main
        _ = Config.fromfile(HERE / 'killed_run.py').pretty_text  # loads the formatter
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.deaths: list[dict[str, object]] = []
        start = time.monotonic()
        self.reference = self.folder / 'undisturbed'
        self._attempt(self.reference, None, self._count)
        self.seconds = time.monotonic() - start
        self.calls = json.loads((self.folder / 'calls.json').read_text())
        self.final = load_file(self.reference / 'latest.pth')
        self.losses = dict(logged_losses(self.reference))

    def runs(self, kills: int) -> Iterator[dict[str, object]]:
        """Begin runs and kill them until there were ``kills``, and let the last one finish.

        Yields:
            The figures so far, after each run.
        """
        start, number = time.monotonic(), 0
        while self.counts['kills'] < kills:
            work_dir = self.folder / f'run{number}'
            self._survive(work_dir, kills)
            self._compare(work_dir)
            shutil.rmtree(work_dir)
            number += 1
            yield dict(
                seconds=round(time.monotonic() - start),
                seconds_of_an_undisturbed_run=round(self.seconds, 1),
                **self.counts,
                deaths=dict(Counter(f'{d["moment"]} {d["step"]}' for d in self.deaths)),
                failures=self.failures,
            )

    def _survive(self, work_dir: Path, kills: int) -> None:
        reached = 0
        while True:
            delay, prepare = None, None
            if self.counts['kills'] < kills:
                delay, prepare = self._choose()
            status = self._attempt(work_dir, delay, prepare)
            if status == 0:
                self.counts['completed runs'] += 1
                return
            if status != -9:
                self.failures.append((self.folder / 'log.txt').read_text()[-2000:])
                raise SystemExit(f'a restart failed:\n{self.failures[-1]}')
            self.counts['kills'] += 1
            self.counts['kills within a write' if delay is None else 'kills at any moment'] += 1
            reached = self._examine(work_dir, reached)

    def _choose(self) -> tuple[float | None, object]:
        if self.counts['kills'] % 2:
            return self.rng.uniform(0, self.seconds / 2), None  # later forks are faster
        death = choose_death(self.rng, self.calls, share=0.3)
        self.deaths.append(death)
        return None, partial(die_within_a_write, **death, rng=self.rng)

    def _attempt(self, work_dir: Path, delay: float | None, prepare: object) -> int:
        options = [str(HERE / 'killed_run.py'), '--work-dir', str(work_dir), '--resume', 'auto']

        def program() -> None:
            finish = prepare() if prepare is not None else None
            self.main(options)
            if finish is not None:
                finish()

        return run_forked(program, self.folder / 'log.txt', delay)

    def _count(self) -> object:
        counts: dict[str, int] = {}
        count_steps(counts)
        return lambda: (self.folder / 'calls.json').write_text(json.dumps(counts))

    def _examine(self, work_dir: Path, reached: int) -> int:
        """Look at what a kill left; return the iteration of the newest whole checkpoint."""
        newest, skipped = newest_checkpoint(work_dir)
        self.counts['damaged files under a name'] += len(skipped)
        self.counts['partial files left'] += len([*work_dir.glob('*.partial')])
        if newest is None:
            self.counts['restarts before the first checkpoint'] += 1
            if reached or [*work_dir.glob('*.pth')]:
                self.failures.append(f'{work_dir}: no checkpoint after iteration {reached}')
            return reached
        self.counts['restarts from a whole checkpoint'] += 1
        iteration = load_file(newest)['meta']['iter']
        if iteration < reached:
            self.failures.append(f'{work_dir}: fell back from {reached} to {iteration}')
        names = [work_dir / 'latest.pth']
        if (work_dir / 'last_checkpoint').exists():
            names.append(Path((work_dir / 'last_checkpoint').read_text()))
        for name in names:
            if name.is_symlink() or name != names[0]:
                load_file(name)
        return iteration

    def _compare(self, work_dir: Path) -> None:
        last = load_file(work_dir / 'latest.pth')
        for part in COMPARED:
            wrong = differing(self.final[part], last[part], f'{work_dir.name} {part}')
            self.failures += [f'{len(wrong)} entries, the first is {wrong[0]}'] if wrong else []
        losses = logged_losses(work_dir)
        self.counts['losses compared'] += len(losses)
        wrong = [step for step, loss in losses if self.losses[step] != loss]
        self.failures += [f'{work_dir.name} loss of iteration {step}' for step in wrong]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--kills', type=int, default=200)
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--out', type=Path, help='JSON file for the figures')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # no thread may run when a process is forked
    with tempfile.TemporaryDirectory(prefix='kills') as folder:
        experiment = Experiment(Path(folder), args.seed)
        for figures in experiment.runs(args.kills):
            text = json.dumps(figures, indent=2)
            print(text, flush=True)
            if args.out:
                args.out.write_text(text + '\n')
    if experiment.failures:
        raise SystemExit(f'{len(experiment.failures)} failures')


if __name__ == '__main__':
    main()
