"""The config that a run from a folder writes: one file with all that it needs, and the reasons."""

import os
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from a2mim.engine.launch import refuse_used_work_dir

NAME = 'config.py'
WIDTH = 100  # columns
FLAT = -(10**9)
SEAL = '# As it was written, if this is the checksum of the lines above: '
Section = tuple[Sequence[str], str, object]  # comments, name of the entry, value


def config_text(title: str, command: str, path: Path, sections: Sequence[Section]) -> str:
    """The text of a config.

    Args:
        title: First line of its docstring.
        command: That writes it.
        path: Of the file.
        sections: Entries in their order.
    """
    repeat = f'Repeat it, bit for bit on the same machine: python tools/train.py {path}'
    parts = [f'"""{quoted(title)}\n\nWritten by: {quoted(command)}\n{quoted(repeat)}\n"""\n\n']
    for comments, name, value in sections:
        folded = [line for comment in comments for line in folded_comment(comment)]
        parts += ['\n', *folded] if folded else []
        parts.append(f'{name} = {source_of(value, taken=len(name) + 3)}\n')
    text = ''.join(parts)
    return f'{text}{SEAL}{checksum(text)}\n'


def folded_comment(text: str) -> list[str]:
    """``text`` as lines of a comment."""
    width = dict(width=WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    lines = textwrap.wrap(quoted(text), subsequent_indent='    ', **width)  # pyright: ignore
    return [f'# {line}\n' for line in lines]


def source_of(value: object, indent: int = 0, taken: int = 0) -> str:
    """``value`` in Python, broken into lines where it is wide.

    Args:
        value: Literals in dicts and lists.
        indent: Columns before the line; ``FLAT`` breaks nothing.
        taken: Columns before the value on its line, beside ``indent``.
    """
    if isinstance(value, list):
        items, ends = [('', item) for item in value], '[]'
    elif isinstance(value, dict) and has_names(value):
        items, ends = [(f'{key}=', item) for key, item in value.items()], ('dict(', ')')
    elif isinstance(value, dict):
        items, ends = [(f'{key!r}: ', item) for key, item in value.items()], '{}'
    else:
        return repr(value)
    flat = ', '.join(start + source_of(item, FLAT) for start, item in items)
    flat = f'{ends[0]}{flat}{ends[1]}'
    if indent + taken + len(flat) < WIDTH or not value:
        return flat
    inner = indent + 4
    lines = [start + source_of(item, inner, len(start) + bool(start)) for start, item in items]
    body = ''.join(f'{" " * inner}{line},\n' for line in lines)
    return f'{ends[0]}\n{body}{" " * indent}{ends[1]}'


def has_names(value: Mapping) -> bool:
    """Whether ``dict(...)`` takes the keys as names."""
    return all(isinstance(key, str) and key.isidentifier() for key in value)


def quoted(text: str) -> str:
    """``text`` for a docstring or a comment."""
    return ' '.join(text.replace('\\', '\\\\').replace('"', '\\"').splitlines())


def unquoted(text: str) -> str:
    """What ``quoted`` was given, but for ends of lines."""
    return text.replace('\\"', '"').replace('\\\\', '\\')


def checksum(text: str) -> str:
    """Of a config, without its last line."""
    return f'{zlib.crc32(text.encode()):08x}'


def check_out(out: Path, images: Path) -> None:
    """Refuse a folder that must not or cannot be written to.

    Args:
        out: Of the run.
        images: That it trains on, absolute.

    Raises:
        OSError: If it is a file or below one, or this user may not write there.
        ValueError: If it is among the images, or holds another run, or a config that a person has
            written or changed.
    """
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f'--out {out}: {there} is a file; give a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f'--out {out}: you may not write to {there}; give another --out')
    if out.resolve().is_relative_to(images):
        raise ValueError(
            f'--out {out} is in {images}, where the pictures of the run would become images to '
            'train on; give an --out elsewhere'
        )
    try:
        refuse_used_work_dir(out)
    except ValueError as error:
        reason = str(error).partition(';')[0]
        raise ValueError(f'{reason}; --resume continues it, or give another --out') from error
    path = out / NAME
    if not path.is_file():
        return
    body, seal, written = path.read_text(encoding='utf-8').rpartition(SEAL)
    if not seal or written.strip() != checksum(body):
        raise ValueError(
            f'{path} is there, and is not as this command wrote it: train it with '
            f'`a2mim pretrain {path} --out {out}`, or give another --out'
        )
