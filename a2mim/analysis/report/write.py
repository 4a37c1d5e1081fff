"""The file of a report: written whole or not at all, and over nothing but a report of ours."""

from pathlib import Path

from a2mim.analysis.report.page import GENERATOR
from a2mim.weights.files import write_atomically

HEAD = 1000  # bytes that hold the name of the program that wrote a page


def check_report_path(path: Path) -> None:
    """Refuse a file that must not be written, before there is anything to write.

    Raises:
        ValueError: If ``path`` is no HTML file by its name.
        IsADirectoryError: If it is a folder.
        FileExistsError: If it is a file that is no report of ours.
    """
    if path.suffix not in ('.html', '.htm'):
        raise ValueError(f'--out {path} must end in .html')
    if path.is_dir():
        raise IsADirectoryError(f'--out {path} is a folder; give the name of a file in it')
    if not path.is_file():
        return
    with path.open('rb') as file:
        if f'<meta name="generator" content="{GENERATOR}">'.encode() not in file.read(HEAD):
            raise FileExistsError(
                f'--out {path} is no report of this tool and is not overwritten; give another name'
            )


def write_report(path: Path, page: str) -> None:
    """Write ``page``, and the folders above it where they are missing.

    Raises:
        ValueError, IsADirectoryError, FileExistsError: See ``check_report_path``.
    """
    check_report_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(page.encode()))
