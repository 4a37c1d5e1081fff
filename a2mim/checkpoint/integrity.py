"""Whether a torch file is whole, found out without running anything that is in it."""

import zipfile
from pathlib import Path

from a2mim.checkpoint.loading import find_refusal, safe_torch_load, unsafe_torch_load
from a2mim.checkpoint.trust import OPTION, is_trusted


def peek(path: Path) -> dict:
    """The content of a torch file whose tensors stay on the disk until they are used.

    Within ``trust_checkpoints(True)`` the file may run code, after a warning.

    Raises:
        ValueError: If it cannot be read; the message is the reason.
    """
    if path.stat().st_size == 0:
        raise ValueError('it is empty')
    if not zipfile.is_zipfile(path):
        raise ValueError('it is cut off, or no file of torch.save')
    try:
        content = safe_torch_load(path, mmap=True)
    # A damaged pickle ends in whatever error its bytes happen to mean.
    except Exception as error:
        refusal = find_refusal(error)
        if refusal is None:
            raise ValueError(f'it cannot be read ({str(error).splitlines()[0][:120]})') from error
        if not is_trusted():
            raise ValueError(f'it {refusal}: refused without {OPTION}') from error
        content = unsafe_torch_load(path)
    if not isinstance(content, dict):
        raise ValueError(f'it holds a {type(content).__name__}')
    return content


def check_members(path: Path) -> None:
    """Compare every member of the archive, so every byte of the tensors, with its checksum.

    Raises:
        ValueError: If one differs; the message is the reason.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f'its archive is damaged ({error})') from error
    if damaged is not None:
        raise ValueError(f'the checksum of {damaged} in it is wrong')
