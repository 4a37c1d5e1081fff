"""The table of released files, ``released.json`` beside this module, and their downloads.

The files are those that the A2MIM read-me (https://github.com/Westlake-AI/A2MIM) links. torch and
mmengine are imported where they are needed: a look at the table needs neither.

The download is our own because ``torch.hub.download_url_to_file`` starts again after an
interruption and ``huggingface_hub`` fetches from its own hub only. Bytes go to ``NAME.partial``;
the next attempt asks the server for the rest, and the file gets its name once it is complete.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from ssl import SSLError
from typing import BinaryIO, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.console import Console
from rich.progress import wrap_file

CHUNK = 1 << 20  # bytes read at once
PATIENCE = 30  # seconds without a byte
PACKAGE = Path(__file__).parents[1]
# Both have a release of this name, and neither has all of the files.
REPOSITORIES = ('/Westlake-AI/A2MIM/', '/Westlake-AI/openmixup/')


@dataclass(frozen=True)
class Entry:
    """One released file.

    Attributes:
        name: What ``a2mim.load_model`` calls it.
        file: Name of the file.
        url: Where it is; None where that is not known.
        kind: ``'pretrain'`` (backbone, mask token and decoder) or ``'classifier'``.
        config: Path below ``configs/``, without suffix, of the config that builds the model.
        sha256: Hexadecimal digest; None where not known.
        note: What else there is to say, often nothing.
        parameters: In millions, as the read-me states.
        log, visualisations: Addresses of the curves of its training (JSON) and of its pictures
            (zip); None where there are none.
    """

    name: str
    file: str
    url: str | None
    kind: str
    config: str
    sha256: str | None
    note: str
    parameters: float
    log: str | None
    visualisations: str | None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it may be, in turn: ``url``, and the same release of the other repository."""
        if self.url is None:
            return ()
        here, there = REPOSITORIES if REPOSITORIES[0] in self.url else REPOSITORIES[::-1]
        return self.url, self.url.replace(here, there)


@cache
def entries() -> tuple[Entry, ...]:
    """Every released file."""
    text = files('a2mim.weights').joinpath('released.json').read_text(encoding='utf-8')
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


def home() -> Path:
    """``$A2MIM_HOME``, or ``checkpoints/a2mim`` in the folder of ``torch.hub``."""
    chosen = os.environ.get('A2MIM_HOME')
    if chosen:
        return Path(chosen)
    import torch

    return Path(torch.hub.get_dir()) / 'checkpoints' / 'a2mim'


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
        _fetch_from_any(entry, path)
    try:
        verify(path, entry.sha256)
    except ValueError as error:
        steps = manual_steps(entry.url, path, entry.sha256)
        raise ValueError(f'{error}. Delete it to have it fetched again. {steps}') from error
    return path


def _fetch_from_any(entry: Entry, path: Path) -> None:
    """``fetch`` from the first address that has the file; where none has, its own is named."""
    problem = None
    for url in entry.addresses:
        try:
            return fetch(url, path, entry.sha256)
        except FileNotFoundError as error:
            problem = problem or error
    raise cast(FileNotFoundError, problem)


def verify(path: Path, sha256: str | None = None) -> None:
    """Compare the hash of ``path`` with the published one, or else with the one noted before.

    Where none is published, the hash at the first use is noted in ``NAME.sha256``, in the format
    of ``sha256sum``, so that a later change is noticed.

    Raises:
        ValueError: If it differs.
    """
    record = Path(f'{path}.sha256')
    noted = sha256 is None and record.exists()
    expected = record.read_text(encoding='utf-8').split()[0] if noted else sha256
    found = hash_of(path)
    if expected not in (None, found):
        hint = (
            f', the hash noted in {record} when it was first used (if the change was meant, '
            'delete that note)'
        )
        raise ValueError(f'{path} has SHA-256 {found}, expected {expected}{hint if noted else ""}')
    if expected is None:
        record.write_text(f'{found}  {path.name}\n', encoding='utf-8')
        from mmengine.logging import print_log

        print_log(
            f'{path.name} could not be verified, since its published SHA-256 is not known. It has '
            f'{found}; noted in {record}, so that a later change is noticed',
            logger='current',
        )


def hash_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, target: Path, sha256: str | None = None) -> None:
    """Download ``url`` to ``target``, resuming an earlier attempt.

    Args:
        url: http or https.
        target: Nothing is fetched if it exists.
        sha256: Hexadecimal digest; None where not known.

    Raises:
        FileNotFoundError: If the server does not have the file.
        ConnectionError: If it cannot be reached, or stops before the end.
        ValueError: If what came has another hash.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Processes of one training all want the same file: one fetches it, the others wait.
    with FileLock(f'{target}.lock'):
        if target.exists():
            return
        partial, tag = Path(f'{target}.partial'), Path(f'{target}.partial.etag')
        with _explained(url, target, sha256):
            _receive(url, partial, tag)
            tag.unlink(missing_ok=True)
            if sha256 is not None and (found := hash_of(partial)) != sha256:
                partial.unlink()  # resuming it would be of no use
                raise ValueError(f'{partial} has SHA-256 {found}, expected {sha256}')
        partial.replace(target)


def manual_steps(url: str | None, target: Path, sha256: str | None = None) -> str:
    """What to do where the file cannot be fetched from here."""
    expected = f'must print {sha256}' if sha256 else 'prints its hash; none is published to compare'
    return (
        f'Get it by hand: (1) download {url or "it from its authors"} on any machine, (2) save it '
        f'as {target}, or set A2MIM_HOME to the folder that holds it, (3) check it: '
        f'`sha256sum {target}` {expected}'
    )


@contextmanager
def _explained(url: str, target: Path, sha256: str | None) -> Iterator[None]:
    """Say what went wrong and how to do without."""
    steps = manual_steps(url, target, sha256)
    try:
        yield
    except HTTPError as error:
        kind = FileNotFoundError if error.code in (404, 410) else ConnectionError
        raise kind(f'{url}: the server answers {error.code} {error.reason}. {steps}') from error
    except (URLError, SSLError, ConnectionError, TimeoutError, HTTPException) as error:
        reason = getattr(error, 'reason', error)
        raise ConnectionError(
            f'{url}: {reason}. The bytes so far are kept, and the next attempt resumes there. '
            f'{steps}'
        ) from error
    except ValueError as error:
        raise ValueError(f'{url}: {error}; it was deleted. {steps}') from error


def _receive(url: str, partial: Path, tag: Path) -> None:
    """Append what is missing of ``partial``, all of it if the server does not send parts.

    ``tag`` keeps the server's name for this version of the file: of a changed one it sends all.
    """
    start = partial.stat().st_size if partial.exists() else 0
    headers = {'User-Agent': 'a2mim'}
    if start:
        headers['Range'] = f'bytes={start}-'
    if start and tag.exists():
        headers['If-Range'] = tag.read_text(encoding='utf-8')
    try:
        response = urlopen(Request(url, headers=headers), timeout=PATIENCE)
    except HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        # Nothing is left to send: all is here, or the file has become shorter.
        if not re.search(rf'/{start}$', error.headers.get('Content-Range', '')):
            partial.unlink()
            _receive(url, partial, tag)
        return
    with response:
        if etag := response.headers.get('ETag'):
            tag.write_text(etag, encoding='utf-8')
        else:
            tag.unlink(missing_ok=True)
        start = start if response.status == 206 else 0
        rest = response.headers.get('Content-Length')
        console, name = Console(stderr=True), partial.stem
        source = wrap_file(
            cast(BinaryIO, response), int(rest or 0), description=name, console=console
        )
        with partial.open('ab' if start else 'wb') as file, source as body:
            shutil.copyfileobj(body, file, CHUNK)
    received = partial.stat().st_size
    if rest is not None and received < start + int(rest):
        raise ConnectionError(f'the server stopped after {received} of {start + int(rest)} bytes')


def config_path(name: str) -> Path:
    """File of the config ``name``, a path below ``configs/`` without suffix.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    # The package first: beside an installed one, configs/ would belong to another project.
    folders = [PACKAGE / 'configs', PACKAGE.parent / 'configs']
    for folder in folders:
        path = folder / f'{name}.py'
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'there is no config {name}.py in {" or ".join(map(str, folders))}; name one as its path '
        'below configs/, without .py'
    )
