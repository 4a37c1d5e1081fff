"""What a report compares: the work dir of a training, a checkpoint, or a timm model."""

from dataclasses import dataclass
from pathlib import Path

from a2mim.analysis.results import INDEX
from a2mim.analysis.sources import RANDOM, split_label

LATEST = 'latest.pth'
LOGS = '*/vis_data/scalars.json'


@dataclass(frozen=True)
class Entry:
    """One entry of the command line.

    Attributes:
        text: What ``read_subject`` takes.
        work_dir: With the logs of the training; None without.
    """

    text: str
    work_dir: Path | None = None


def read_entry(text: str) -> Entry:
    """``[LABEL=][random:]SOURCE``; SOURCE is a work dir or what ``read_subject`` takes.

    Raises:
        FileNotFoundError: If a folder holds no ``latest.pth``.
        ValueError: If it is a folder of results.
    """
    label, source = split_label(text)
    folder = Path(source.removeprefix(RANDOM))
    if not folder.is_dir():
        return Entry(text)
    if (folder / INDEX).is_file():
        raise ValueError(f'{folder} is a folder of results: give it as --results {folder}')
    if not (folder / LATEST).is_file():
        raise FileNotFoundError(
            f'{folder} has no {LATEST}: it is not the work dir of a training that has saved '
            'something; give one, or a checkpoint file'
        )
    random = RANDOM if source.startswith(RANDOM) else ''
    name = label or f'{"random " if random else ""}{folder.resolve().name}'
    # A random twin has not had the training that the logs tell of.
    logs = folder if not random and any(folder.glob(LOGS)) else None
    return Entry(f'{name}={random}{folder / LATEST}', logs)
