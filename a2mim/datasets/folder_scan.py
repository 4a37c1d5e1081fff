"""Find the images below a folder.

A folder that has not changed since it was last read is not read again, which saves a start on a
network disk most of its wait. What it held is kept in a file in the cache of the user.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.dist import broadcast_object_list, is_main_process

from a2mim.datasets.decoding import IMAGE_SUFFIXES

LEAST_KEPT = 10_000  # images below a folder, from which on a listing is kept
# Seconds for which a folder must not have changed: within the resolution of its times, and the
# difference of two clocks, a change would not be seen.
SETTLED = 60.0


class FolderScan(NamedTuple):
    """What is below a folder, hidden files and folders apart; all paths are relative to it.

    Attributes:
        paths: Images, in any order.
        links: Links to folders that are left out.
        unread: Folders that cannot be read.
        others: Number and first path of the files with each other suffix, by suffix.
        kept: Folders that were not read again.
    """

    paths: list[str]
    links: list[str]
    unread: list[str]
    others: dict[str, tuple[int, str]]
    kept: list[str]


def scan_once(root: str) -> FolderScan:
    """``scan_folder`` of the first process, for all of them; every process has to call it.

    A file that comes or goes meanwhile cannot give two processes different orders.

    Raises:
        Exception: What the first process raises.
    """
    answer: list[Any] = [None]
    if is_main_process():
        try:
            answer = [scan_folder(root)]
        except Exception as error:  # the others wait for an answer
            answer = [error]
    broadcast_object_list(answer)
    if isinstance(answer[0], Exception):
        raise answer[0]
    return answer[0]


def scan_folder(root: str) -> FolderScan:
    """Find the images below a folder, each once.

    Folders come before links, so that the path of a folder does not depend on links to it. A link
    leads nowhere new if its target, by device and inode, has been read or contains ``root``.
    """
    scan, listing = FolderScan([], [], [], {}, []), Listing(root)
    resolved = Path(root).resolve()
    seen = {_identity(str(folder)) for folder in (resolved, *resolved.parents)}
    folders, links = [''], []  # links in a heap, so that of two to one folder the first is read
    while folders or links:
        if not folders:
            link = heappop(links)
            identity = _identity(os.path.join(root, link))
            if identity in seen:
                scan.links.append(link)
                continue
            seen.add(identity)
            folders.append(link)
        below, further = _scan_one(listing, folders.pop(), scan)
        for link in further:
            heappush(links, link)
        for folder in below:
            identity = _identity(os.path.join(root, folder))
            if identity not in seen:
                seen.add(identity)
                folders.append(folder)
    listing.keep(len(scan.paths))
    return scan


def _scan_one(listing: 'Listing', folder: str, scan: FolderScan) -> tuple[list[str], list[str]]:
    """Note the files of one folder; returns its folders and its links to folders."""
    try:
        content, kept = listing.content(folder)
    except OSError:
        scan.unread.append(folder)
        return [], []
    above = os.path.join(folder, '')
    if kept:
        scan.kept.append(folder)
    scan.paths.extend(above + name for name in content.images)
    for suffix, (more, name) in content.others.items():
        number, first = scan.others.get(suffix, (0, above + name))
        scan.others[suffix] = number + more, min(first, above + name)
    return [above + name for name in content.folders], [above + name for name in content.links]


class Content(NamedTuple):
    """Names in one folder, hidden ones apart.

    Attributes:
        images: Files with the suffix of an image.
        folders: Folders.
        links: Links to folders.
        others: Number and first name of the files with each other suffix, by suffix.
    """

    images: list[str]
    folders: list[str]
    links: list[str]
    others: dict[str, tuple[int, str]]


def read_folder(path: str) -> Content:
    """Read one folder.

    Raises:
        OSError: If it cannot be read.
    """
    content = Content([], [], [], {})
    for entry in os.scandir(path):
        if entry.name[0] == '.':
            continue
        if _is_folder(entry):
            (content.links if entry.is_symlink() else content.folders).append(entry.name)
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            content.images.append(entry.name)
        else:
            suffix = os.path.splitext(entry.name)[1].lower()
            number, first = content.others.get(suffix, (0, entry.name))
            content.others[suffix] = number + 1, min(first, entry.name)
    return content


class Listing:
    """What the folders below ``root`` held when they were last read.

    A folder counts as unchanged while its inode and its times of change are the same: a file that
    is added, removed or renamed changes them, and nobody can set the one of the inode. Folders with
    links to folders are read anew each time, since a link may lead elsewhere. A listing that cannot
    be read or written costs time, nothing else.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.file = listing_file(root)
        self._old = _load(self.file, root)
        self._new: dict[str, list] = {}
        self._started = time.time()

    def content(self, folder: str) -> tuple[Content, bool]:
        """What is in ``folder``, a path below the root, and whether that was known.

        Raises:
            OSError: If it cannot be read.
        """
        path = os.path.join(self.root, folder)
        status = os.stat(path)
        times = [status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
        known = self._old.get(folder)
        if known is not None and known[0] == times:
            self._new[folder] = known
            _, images, folders, others = known
            return Content(_names(images), _names(folders), [], others), True
        content = read_folder(path)
        settled = self._started - max(status.st_mtime, status.st_ctime) > SETTLED
        if settled and not content.links and status.st_ino:
            images, folders = '/'.join(content.images), '/'.join(content.folders)
            self._new[folder] = [times, images, folders, content.others]
        return content, False

    def keep(self, images: int) -> None:
        """Write the file, if there are enough ``images`` and something has changed."""
        if images < LEAST_KEPT or self._new == self._old:
            return
        text = json.dumps({**_header(self.root), 'folders': self._new})
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile('w', dir=self.file.parent, delete=False) as part:
                part.write(text)
            os.replace(part.name, self.file)
        except OSError:
            return


def listing_file(root: str) -> Path:
    """Where the listing of a folder is kept; removing it is safe."""
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
    return Path(cache, 'a2mim', 'listings', f'{name}.json')


def _header(root: str) -> dict[str, Any]:
    """What a listing depends on beside the folders."""
    return {'form': 1, 'root': os.path.realpath(root), 'suffixes': [*IMAGE_SUFFIXES]}


def _load(file: Path, root: str) -> dict[str, list]:
    """The folders of a listing; none if there is no file that fits."""
    try:
        found = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    fits = isinstance(found, dict) and found.items() >= _header(root).items()
    return found['folders'] if fits else {}


def _names(joined: str) -> list[str]:
    """Names that were joined by what no name contains."""
    return joined.split('/') if joined else []


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: str) -> object:
    """Device and inode; the path on file systems that number no inodes."""
    try:
        status = os.stat(folder)
    except OSError:
        return folder
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def left_out(scan: FolderScan) -> list[str]:
    """Lines for the log about what is below a folder and is not read, or not read again."""
    lines = []
    if scan.kept:
        lines.append(
            f'{len(scan.kept)} folders are unchanged since they were last read, and not read again'
        )
    if scan.links:
        lines.append(
            f'links to folders that are read already or contain this one are left out: '
            f'{_some(scan.links)}'
        )
    if scan.unread:
        lines.append(f'folders that cannot be read are left out: {_some(scan.unread)}')
    if scan.others:
        total = sum(number for number, _ in scan.others.values())
        kinds = [
            f'{suffix or "no suffix"} ({number}, such as {first!r})'
            for suffix, (number, first) in sorted(scan.others.items())
        ]
        more = ', …' if len(kinds) > MOST_NAMED else ''
        lines.append(
            f'{total} files are left out, because they have no suffix of an image: '
            f'{", ".join(kinds[:MOST_NAMED])}{more}'
        )
    return lines


MOST_NAMED = 10


def _some(names: Sequence[str]) -> str:
    """The number of names, and the first ones."""
    more = ', …' if len(names) > MOST_NAMED else ''
    return f'{len(names)} ({", ".join(map(repr, sorted(names)[:MOST_NAMED]))}{more})'
