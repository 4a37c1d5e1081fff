"""The table of released files, ``released.json`` beside this module, and their downloads.

The files are those that the A2MIM read-me (https://github.com/Westlake-AI/A2MIM) links. torch and
mmengine are imported where they are needed: a look at the table needs neither.

The download is our own because ``torch.hub.download_url_to_file`` starts again after an
interruption and ``huggingface_hub`` fetches from its own hub only. Bytes go to ``NAME.partial``.
The next attempt asks the server for the rest, if the bytes so far are those that were received (by
the hash of the whole, or by ``NAME.partial.state``, which has theirs and the server's name for this
version). The file gets its name once it is complete and no web page.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from http.client import HTTPException, HTTPMessage, HTTPResponse
from importlib.resources import files
from pathlib import Path
from ssl import SSLError
from typing import BinaryIO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.console import Console
from rich.progress import wrap_file

from a2mim.options import SHIPPED

CHUNK = 1 << 20  # bytes read at once
PATIENCE = 30  # seconds without a byte
SCHEMES = ('http', 'https')
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
        ValueError: If it differs, or is a page of text.
    """
    refuse_text(path)
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
        from mmengine.logging import print_log

        from a2mim.weights.files import write_atomically

        line = f'{found}  {path.name}\n'.encode()
        write_atomically(record, lambda file: file.write(line))

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
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f'{url} is neither http nor https')
    target.parent.mkdir(parents=True, exist_ok=True)
    # Processes of one training all want the same file: one fetches it, the others wait.
    with _locked(Path(f'{target}.lock')):
        if target.exists():
            return
        partial, state = Path(f'{target}.partial'), Path(f'{target}.partial.state')
        with _explained(url, target, sha256):
            _receive(url, partial, state, known=sha256 is not None)
            state.unlink(missing_ok=True)
            try:
                refuse_text(partial)
                if sha256 is not None and (found := hash_of(partial)) != sha256:
                    raise ValueError(f'{partial} has SHA-256 {found}, expected {sha256}')
            except ValueError:
                partial.unlink()  # resuming it would be of no use
                raise
        partial.replace(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time pass; where a file system has no locks, all of them."""
    from a2mim.weights.files import open_own

    descriptor = open_own(path)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def refuse_text(path: Path) -> None:
    """Refuse what a server sends in place of a file: a page, a message, nothing.

    Raises:
        ValueError: If ``path`` begins with text, as no file of weights does, or is empty.
    """
    with path.open('rb') as file:
        head = file.read(512)
    try:
        text = head.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        # A character may be cut off at the end of what was read.
        text = head[: error.start].decode('utf-8-sig') if error.start > len(head) - 4 else '\0'
    if all(character.isprintable() or character.isspace() for character in text):
        kind = 'a web page' if text.lstrip().startswith('<') else 'text'
        kind = kind if head else 'empty'
        raise ValueError(f'{path} is {kind}, no file of weights: {" ".join(text[:60].split())!r}')


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
        reason = ' '.join(str(error.reason).split())
        raise kind(f'{url}: the server answers {error.code} {reason}. {steps}') from error
    except (URLError, SSLError, ConnectionError, TimeoutError, HTTPException) as error:
        reason = getattr(error, 'reason', error)
        raise ConnectionError(
            f'{url}: {reason}. The bytes so far are kept, and the next attempt resumes there where '
            f'the server allows it. {steps}'
        ) from error
    except ValueError as error:
        raise ValueError(f'{url}: {error}; it was deleted. {steps}') from error


class _Redirects(HTTPRedirectHandler):
    """Follow a server to another address, but not to another kind of it."""

    def redirect_request(
        self, req: Request, fp: object, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in SCHEMES or (before == 'https' and after == 'http'):
            raise ConnectionError(f'the server redirects from {before} to {after}: refused')
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # pyright: ignore


@dataclass
class _Received:
    """What is known of the bytes in ``NAME.partial``."""

    size: int = 0
    etag: str | None = None
    digest: str = ''


def _read_state(partial: Path, state: Path, known: bool) -> _Received:
    """How many bytes of ``partial`` may be completed.

    With a hash of the whole (``known``) all of them: a wrong byte is found at the end. Without one
    those that this program has received, which are hashed again, if the server named the version.
    """
    try:
        found = _Received(**json.loads(state.read_text(encoding='utf-8')))
        size = partial.stat().st_size
        if size == found.size and found.etag and hash_of(partial) == found.digest:
            return found
    except (OSError, ValueError, TypeError):
        pass
    return _Received(partial.stat().st_size) if known and partial.is_file() else _Received()


def _receive(url: str, partial: Path, state: Path, *, known: bool) -> None:
    """Append what is missing of ``partial``, all of it if the server does not send parts."""
    before = _read_state(partial, state, known)
    headers = {'User-Agent': 'a2mim'}
    if before.size:
        headers['Range'] = f'bytes={before.size}-'
        if before.etag:
            headers['If-Range'] = before.etag
    try:
        response = build_opener(_Redirects).open(Request(url, headers=headers), timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not before.size:
            raise
        # Nothing is left to send: all is here, or the file has become shorter.
        if re.search(rf'/{before.size}$', error.headers.get('Content-Range', '')):
            return
        partial.unlink()
        return _receive(url, partial, state, known=known)
    with response:
        if response.status == 206 and (start := _part(response)[0] or 0) != before.size:
            response.close()
            if not before.size:
                raise ConnectionError(f'the server sends a part from byte {start}, not the whole')
            partial.unlink()  # another part than the one asked for: ask for all
            return _receive(url, partial, state, known=known)
        _store(response, partial, state, known)


def _part(response: HTTPResponse) -> tuple[int | None, int | None]:
    """First byte of the part that a server sends, and the size of the whole, where it tells."""
    found = re.match(r'bytes (\d+)-\d+/(\d+)?', response.headers.get('Content-Range', ''))
    return (int(found[1]), int(found[2]) if found[2] else None) if found else (None, None)


def _store(response: HTTPResponse, partial: Path, state: Path, known: bool) -> None:
    """Write the body to ``partial``, from the byte on that the server names.

    Raises:
        ConnectionError: If the answer is no whole file, or ends early.
    """
    from a2mim.weights.files import open_own

    start, whole = _part(response) if response.status == 206 else (0, None)
    encoding = response.headers.get('Content-Encoding', 'identity')
    if response.status not in (200, 206) or not (start or response.status == 200):
        raise ConnectionError(f'the server answers {response.status} where 200 was asked for')
    if encoding != 'identity':
        raise ConnectionError(f'the server sends the file as {encoding}')
    start, length = start or 0, response.headers.get('Content-Length') or ''
    whole = whole or (start + int(length) if length.isdecimal() else None)
    if whole is None and not known and response.headers.get('Transfer-Encoding') != 'chunked':
        raise ConnectionError('the server does not say how long the file is')
    received = start
    console, total = Console(stderr=True), (whole or 0) - start
    with os.fdopen(open_own(partial), 'r+b') as file:
        file.truncate(start)
        file.seek(start)
        try:
            source = cast(BinaryIO, response)
            with wrap_file(source, total, description=partial.stem, console=console) as body:
                while chunk := body.read(CHUNK):
                    file.write(chunk)
                    received += len(chunk)
        finally:
            file.flush()
            if received != whole:
                _write_state(partial, state, received, response.headers.get('ETag') or '')
    if whole is not None and received != whole:
        raise ConnectionError(f'the server stopped after {received} of {whole} bytes')


def _write_state(partial: Path, state: Path, size: int, etag: str) -> None:
    """Note what was received. A weak ETag does not tell one version from another, byte by byte."""
    from a2mim.weights.files import write_atomically

    strong = None if etag.startswith('W/') else etag or None
    text = json.dumps(vars(_Received(size, strong, hash_of(partial))))
    write_atomically(state, lambda stream: stream.write(text.encode()))


# Folders of configs that are for the launcher of another package (docs/mmpretrain.md), which they
# import when they are read.
OF_OTHERS = ('mmpretrain',)


def is_recipe(path: Path) -> bool:
    """Whether a file below configs/ is a config that our tools run."""
    return '_base_' not in path.parts and path.parent.name not in OF_OTHERS


def config_files() -> list[Path]:
    """Every config that can be run, of those that come with the package."""
    found = sorted((SHIPPED / 'configs').resolve().rglob('*.py'))
    return [path for path in found if is_recipe(path)]


def config_path(name: str) -> Path:
    """File of the config ``name``, a path below ``configs/`` without suffix.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    folder = (SHIPPED / 'configs').resolve()
    path = folder / f'{name}.py'
    if path.is_file():
        return path
    raise FileNotFoundError(
        f'there is no config {name}.py in {folder}; name one as its path below configs/, without '
        '.py'
    )


def recipe_files() -> dict[str, Path]:
    """Every config that can be run, by its path below configs/ without .py."""
    folder = (SHIPPED / 'configs').resolve()
    return {path.relative_to(folder).with_suffix('').as_posix(): path for path in config_files()}


def find_config(name: str) -> Path:
    """The file of the config called ``name``.

    Raises:
        KeyError: If there is none, or several; the message names those that are meant.
    """
    files, wanted = recipe_files(), name.removeprefix('configs/').removesuffix('.py')
    found = [path for key, path in files.items() if f'/{key}'.endswith(f'/{wanted}')]
    if len(found) == 1:
        return found[0]
    stems = {key.rpartition('/')[2]: key for key in files}
    near = get_close_matches(wanted.rpartition('/')[2], stems, n=3, cutoff=0.5)
    meant = [key for key, path in files.items() if path in found] or near
    problem = f'{len(found)} recipes are' if found else 'no recipe is'
    raise KeyError(
        f'{problem} called {name!r}; use {", ".join(meant) or "one that `a2mim recipes ls` lists"}'
    )
