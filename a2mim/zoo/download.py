"""Fetch a file so that an interruption costs nothing and half a file is never taken for a whole.

Bytes go to ``NAME.partial``; the next attempt asks the server for the rest of them, and the file
gets its name once it is complete and has the hash that it should have.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from a2mim.zoo.verify import check_file

CHUNK = 1 << 20
PATIENCE = 30  # seconds without a byte


def fetch(url: str, target: Path, size: int | None = None, sha256: str | None = None) -> None:
    """Download ``url`` to ``target``, going on where an earlier attempt ended.

    Args:
        url: http or https.
        target: Nothing is fetched if it is there.
        size: Bytes; None where not known.
        sha256: Hexadecimal digest; None where not known.

    Raises:
        FileNotFoundError: If the server does not have the file.
        ConnectionError: If it cannot be reached, or stops before the end.
        ValueError: If what came has another size or hash.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Processes of one training all want the same file: one fetches it, the others wait.
    with FileLock(f'{target}.lock'):
        if target.exists():
            return
        partial = Path(f'{target}.partial')
        with _explained(url, target, sha256):
            _receive(url, partial)
            try:
                check_file(partial, size, sha256)
            except ValueError:
                partial.unlink()  # going on with it would be of no use
                _tag(partial).unlink(missing_ok=True)
                raise
        partial.replace(target)
        _tag(partial).unlink(missing_ok=True)


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
            f'{url}: {reason}. What has come so far is kept: the next attempt goes on from there. '
            f'{steps}'
        ) from error
    except ValueError as error:
        raise ValueError(f'{url}: {error}; it was deleted. {steps}') from error


def _receive(url: str, partial: Path) -> None:
    """Append what is missing of ``partial``, all of it if the server does not send parts."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {'User-Agent': 'a2mim'}
    if start:
        headers['Range'] = f'bytes={start}-'
    if start and _tag(partial).exists():
        # The rest of the same file only: of a changed one the server sends all.
        headers['If-Range'] = _tag(partial).read_text(encoding='utf-8')
    try:
        response = urlopen(Request(url, headers=headers), timeout=PATIENCE)
    except HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        # Nothing is left to send: all is here, or the file has become shorter.
        if _total(error.headers.get('Content-Range')) != start:
            partial.unlink()
            _receive(url, partial)
        return
    with response:
        _append(response, partial, start if response.status == 206 else 0)


def _append(response: HTTPResponse, partial: Path, start: int) -> None:
    length = response.headers.get('Content-Length')
    total = start + int(length) if length else _total(response.headers.get('Content-Range'))
    if tag := response.headers.get('ETag'):
        _tag(partial).write_text(tag, encoding='utf-8')
    else:
        _tag(partial).unlink(missing_ok=True)
    with partial.open('ab' if start else 'wb') as file, _progress() as progress:
        task = progress.add_task(partial.stem, completed=start, total=total)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            progress.update(task, advance=len(chunk))
    received = partial.stat().st_size
    if total is not None and received < total:
        raise ConnectionError(f'the server stopped after {received} of {total} bytes')


def _progress() -> Progress:
    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    name = TextColumn('{task.description}')
    return Progress(name, BarColumn(), *columns, console=Console(stderr=True))


def _tag(partial: Path) -> Path:
    """Where the server's name for this version of the file is kept."""
    return Path(f'{partial}.etag')


def _total(content_range: str | None) -> int | None:
    match = re.search(r'/(\d+)$', content_range or '')
    return int(match[1]) if match else None
