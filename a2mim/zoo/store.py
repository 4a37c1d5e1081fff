"""Where released files are kept on this machine."""

import os
from pathlib import Path

import torch

from a2mim.zoo.download import fetch, manual_steps
from a2mim.zoo.table import Entry
from a2mim.zoo.verify import verify


def home() -> Path:
    """``$A2MIM_HOME``, or ``checkpoints/a2mim`` in the folder of ``torch.hub``."""
    chosen = os.environ.get('A2MIM_HOME')
    return Path(chosen) if chosen else Path(torch.hub.get_dir()) / 'checkpoints' / 'a2mim'


def local_file(entry: Entry) -> Path:
    """The file of ``entry``, downloaded if it is not here yet, and verified each time.

    Raises:
        ValueError: If its address is not known, or it is not the file that it should be.
        FileNotFoundError, ConnectionError: If it cannot be fetched.
    """
    path = home() / entry.file
    if not path.exists():
        if entry.url is None:
            raise ValueError(
                f'where the weights of {entry.name} are is not known ({entry.note}). '
                f'{manual_steps(None, path, entry.sha256)}; or pass pretrained=False'
            )
        fetch(entry.url, path, entry.size, entry.sha256)
    try:
        verify(path, entry.size, entry.sha256)
    except ValueError as error:
        steps = manual_steps(entry.url, path, entry.sha256)
        raise ValueError(f'{error}. Delete it to have it fetched again. {steps}') from error
    return path
