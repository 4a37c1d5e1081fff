r"""``bad_files.txt``: the names of images that cannot be read, one a line.

A line has the bytes of a name as they are, UTF-8 or not: ``xargs -d '\n' -a bad_files.txt ls -ld``
finds every file. Only a line break inside a name is written as a backslash and the letter n.
"""

import os
from collections.abc import Iterable
from pathlib import Path

FILE_NAME = 'bad_files.txt'


def write_names(path: Path, names: Iterable[str]) -> None:
    """Replace ``path`` by the sorted list of ``names``, without a moment in which it is partial."""
    lines = sorted({os.fsencode(name).replace(b'\n', b'\\n') + b'\n' for name in names})
    partial = path.with_name(f'{path.name}.partial')
    partial.write_bytes(b''.join(lines))
    os.replace(partial, path)
