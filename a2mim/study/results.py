"""The folder of a study: which matrix it belongs to, a JSON line per finished run, claims.

Lines are appended by one ``write`` under a lock, so that several processes share the file and a
killed one leaves at most a last line without its end, which is not read.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from a2mim.study.matrix import Job, Study
from a2mim.weights.files import write_atomically

RESULTS, IDENTITY = 'results.jsonl', 'study.json'
FINISHED, FAILED = 'finished', 'failed'


def read_results(path: Path) -> dict[str, dict]:
    """The record of each run by its name; the first one counts, were there several.

    Raises:
        ValueError: If a line is no record.
    """
    records: dict[str, dict] = {}
    if not path.is_file():
        return records
    # After the last line end is nothing, or what a killed writer left.
    for number, line in enumerate(path.read_text(encoding='utf-8').split('\n')[:-1], 1):
        try:
            record = json.loads(line)
            records.setdefault(record['run'], record)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f'{path}, line {number} is no record of a run: {line[:60]!r}'
            ) from error
    return records


def append_result(path: Path, record: Mapping[str, object]) -> None:
    """Append one line; what a killed writer left of its line is ended before."""
    line = json.dumps(record) + '\n'
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b'\n':
            keep = os.pread(descriptor, size, 0).rfind(b'\n') + 1
            os.ftruncate(descriptor, keep)
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(folder: Path, study: Study) -> None:
    """Take ``folder`` for this study, or check that it is its own; further starts may join.

    Raises:
        ValueError: If it holds the results of another matrix, or something else.
    """
    path = folder / IDENTITY
    known: dict[str, str] = {}
    if path.is_file():
        known = json.loads(path.read_text(encoding='utf-8'))
        changed = [key for key, value in study.identity.items() if known.get(key, value) != value]
        if changed or not known.keys() & study.identity.keys():
            raise ValueError(
                f'{folder} holds the results of another matrix, by {changed or "all it has"}: a '
                f'config or the matrix of {study.folder.name} has changed; give another --out'
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f'{folder} is not empty and holds no study; give another --out')
    if study.identity.items() <= known.items():
        return
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**known, **study.identity}, indent=1) + '\n'
    write_atomically(path, lambda file: file.write(content.encode()))


@contextmanager
def claim(folder: Path, job: Job) -> Iterator[bool]:
    """Whether this process has the run; the kernel gives it back when the process ends."""
    claims = folder / 'claims'
    claims.mkdir(exist_ok=True)
    descriptor = os.open(claims / job.name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
