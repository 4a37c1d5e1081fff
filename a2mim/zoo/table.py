"""The table of released files, ``released.json`` beside this module.

The files are those that the A2MIM read-me (https://github.com/Westlake-AI/A2MIM) links.
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Entry:
    """One released file.

    Attributes:
        name: What ``a2mim.load_model`` calls it.
        file: Name of the file.
        url: Where it is; None where that is not known.
        kind: ``'pretrain'`` (trunk, mask token and decoder) or ``'classifier'``.
        config: Path below ``configs/``, without suffix, of the recipe that builds the model.
        size: Bytes; None where not known.
        sha256: Hexadecimal digest; None where not known.
        note: What else there is to say, often nothing.
    """

    name: str
    file: str
    url: str | None
    kind: str
    config: str
    size: int | None
    sha256: str | None
    note: str


@cache
def entries() -> tuple[Entry, ...]:
    """Every released file."""
    text = files('a2mim.zoo').joinpath('released.json').read_text(encoding='utf-8')
    return tuple(Entry(**row) for row in json.loads(text))


def list_models(pattern: str = '*', *, pretrained_only: bool = False) -> list[str]:
    """Names of the released models that match a shell pattern, such as ``'a2mim_*_ft_*'``.

    Args:
        pattern: With ``*``, ``?`` and ``[…]``.
        pretrained_only: Leave out those whose address is not known.
    """
    return [
        entry.name
        for entry in entries()
        if fnmatchcase(entry.name, pattern) and (entry.url or not pretrained_only)
    ]


def find_entry(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        KeyError: If there is none; the message has the names close to it.
    """
    for entry in entries():
        if entry.name == name:
            return entry
    close = get_close_matches(name, list_models(), n=4, cutoff=0.5)
    raise KeyError(
        f'no file and no released model is called {name!r}; close to it: '
        f'{", ".join(close) or "nothing"}; a2mim.list_models() has all {len(entries())}'
    )
