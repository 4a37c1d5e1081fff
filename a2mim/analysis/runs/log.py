"""The lines that a run logged: ours, in one part or several, and those of the published system.

A line is a JSON object. Of ours a line of training has ``iter``, counted through the run, and one
of validation has only ``step``, the epoch (or the iteration, where training is by iterations). Of
the published system a line has ``mode``, ``epoch``, and ``iter`` counted from the epoch's start.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COUNTERS = ('epoch', 'iter', 'step', 'mode')


@dataclass(frozen=True)
class RunLog:
    """A whole run.

    Attributes:
        label: The folder of the run, or the name of the file.
        train: Lines of training in order, ``step`` counts iterations of the run from 1.
        val: Lines of validation in order, ``step`` counts epochs, or iterations.
        by_epoch: What ``step`` of ``val`` counts.
    """

    label: str
    train: list[dict]
    val: list[dict]
    by_epoch: bool

    @property
    def keys(self) -> list[str]:
        """What can be drawn."""
        found = {
            key
            for line in self.train + self.val
            for key, value in line.items()
            if isinstance(value, int | float)
        }
        return sorted(found - set(COUNTERS))

    def curve(self, key: str) -> tuple[list[int], list[float], bool]:
        """Steps, values, and whether the steps are epochs; training goes before validation.

        Raises:
            ValueError: If nothing logged ``key``.
        """
        for lines, epochs in ((self.train, False), (self.val, self.by_epoch)):
            points = [(line['step'], line[key]) for line in lines if key in line]
            if points:
                return [step for step, _ in points], [value for _, value in points], epochs
        raise ValueError(
            f'{self.label} has no key {key!r}; it has {", ".join(self.keys) or "none"}'
        )


def read_run(path: str | Path) -> RunLog:
    """The log of a work dir, whose parts are joined, or a single file.

    What a part of a resumed run did again counts once, as the later part did it.

    Raises:
        FileNotFoundError: If there is no such file, or no log in the folder.
        ValueError: If it is no log.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob('*/vis_data/scalars.json'))
        if not files:
            raise FileNotFoundError(
                f'{path} is not the work dir of a run: there is no TIME/vis_data/scalars.json in it'
            )
        return _join([_read_part(file) for file in files], path.resolve().name)
    if not path.is_file():
        raise FileNotFoundError(f'there is no log {path}; give a work dir or a log of JSON lines')
    # WORK_DIR/TIME/vis_data/scalars.json: the run has the name.
    inside = path.parent.name == 'vis_data'
    label = path.resolve().parents[2].name if inside else path.name.split('.')[0]
    return _join([_read_part(path)], label)


def _read_part(path: Path) -> RunLog:
    lines = [line for line in _json_lines(path) if set(line) & {'step', 'mode'}]
    if not lines:
        raise ValueError(f'{path} has no line of training or validation; is it the log of a run?')
    if any('mode' in line for line in lines):
        return _published(path.name, lines)
    train = [line for line in lines if 'iter' in line]
    val = [line for line in lines if 'iter' not in line]
    return RunLog(path.name, train, val, any('epoch' in line for line in train))


def _json_lines(path: Path) -> list[dict]:
    texts = path.read_text(encoding='utf-8').splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(texts) > 1:
                break  # the run was killed while it wrote
            raise ValueError(
                f'{path}, line {number} is not a JSON object: {text[:40]!r}'
            ) from error
        if not isinstance(line, dict):
            raise ValueError(f'{path}, line {number} is not a JSON object: {text[:40]!r}')
        lines.append(line)
    return lines


def _published(label: str, lines: Sequence[dict]) -> RunLog:
    train = [line for line in lines if line.get('mode') == 'train']
    # Nothing says how long an epoch is: the last logged iteration is the best that there is.
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
            # A probe and an accuracy of one step are two lines.
            val[line['step']] = {**val.get(line['step'], {}), **line}
    by_epoch = any(part.by_epoch for part in parts)
    order = sorted(train), sorted(val)
    return RunLog(label, [train[step] for step in order[0]], [val[s] for s in order[1]], by_epoch)
