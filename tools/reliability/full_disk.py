"""Let a run fill its disk, make room, resume it, and compare it with an undisturbed run.

FOLDER is on a small file system of its own, such as

    mount -t tmpfs -o size=50m tmpfs FOLDER
    python tools/reliability/full_disk.py FOLDER

A filler leaves room for two checkpoints and a half, where a run that keeps two needs three at the
moment of its third save.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kill_and_resume import COMPARED, HERE, differing

from a2mim.engine.checkpointing import newest_checkpoint
from a2mim.weights.safe_load import load_file

LIMIT = 1 << 30  # bytes: more is no small file system, and is not filled


def train(work_dir: Path) -> subprocess.CompletedProcess:
    """Start or resume the small run in its own process."""
    program, config = HERE.parent / 'train.py', HERE / 'killed_run.py'
    command = [sys.executable, program, config, '--work-dir', work_dir, '--resume', 'auto']
    # A run would not begin where three checkpoints have no room; here the disk fills up later.
    command.append('--no-preflight')
    return subprocess.run(command, check=False, capture_output=True, text=True)


def fill(folder: Path, leave: int) -> Path:
    """A file in ``folder`` that leaves ``leave`` bytes free."""
    filler = folder / 'filler'
    with filler.open('wb') as file:
        for _ in range((shutil.disk_usage(folder).free - leave) >> 16):
            file.write(bytes(1 << 16))
    return filler


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, metavar='FOLDER')
    folder = parser.parse_args(argv).folder
    if shutil.disk_usage(folder).total > LIMIT:
        parser.error(f'{folder} is on a file system of more than {LIMIT >> 20} MiB; mount a tmpfs')
    with tempfile.TemporaryDirectory() as elsewhere:
        train(Path(elsewhere)).check_returncode()
        final = load_file(Path(elsewhere, 'latest.pth'))
        size = Path(elsewhere, 'latest.pth').stat().st_size
    filler = fill(folder, leave=size * 5 // 2)
    print(f'a checkpoint has {size:,} bytes; {shutil.disk_usage(folder).free:,} are free')
    work_dir = folder / 'run'
    done = train(work_dir)
    print(f'full: exit code {done.returncode}; {done.stderr.strip().splitlines()[-1]}')
    newest, skipped = newest_checkpoint(work_dir)
    print(f'newest: {newest}, damaged: {skipped}, partial: {[*work_dir.glob("*.partial")]}')
    if done.returncode == 0 or newest is None or skipped:
        raise SystemExit('failed: the disk was not full, or a checkpoint was lost')
    filler.unlink()
    train(work_dir).check_returncode()
    last = load_file(work_dir / 'latest.pth')
    wrong = [name for part in COMPARED for name in differing(final[part], last[part], part)]
    if wrong:
        raise SystemExit(f'failed: {", ".join(wrong)} differ from the undisturbed run')
    print('with room again: went on to the end, equal to the undisturbed run to the last bit')


if __name__ == '__main__':
    main()
