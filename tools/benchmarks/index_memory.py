"""Memory of the index of a large data set: a list file of many paths, one of them long.

The source is that of a config, ``ImageList``. ``held`` is what it keeps, and what each data worker
that is spawned receives; the growth of the process is measured while it is made and afterwards.

    python tools/benchmarks/index_memory.py --paths 1000000
"""

import argparse
import gc
import pickle
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from real_run import write_images

from a2mim.datasets import ImageList

CLASSES = 1000
MB = 1e6


def write_list(file: Path, root: Path, count: int, longest: int) -> None:
    """``count`` lines ``path label`` as of ImageNet, the last with a path of ``longest`` bytes."""
    write_images(root, 1)  # the first path has to exist
    first = next(root.iterdir()).name
    with file.open('w', encoding='utf-8') as lines:
        lines.write(f'{first} 0\n')
        for number in range(1, count - 1):
            label = number * CLASSES // count
            lines.write(f'n{label:08}/n{label:08}_{number:09}.JPEG {label}\n')
        lines.write(f'{"x" * (longest - 4)}.jpg {CLASSES - 1}\n')


def resident(field: str) -> float:
    """Memory of this process in MB, from Linux: ``VmRSS`` now, ``VmHWM`` at most so far."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / MB


def main(argv: Sequence[str] | None = None) -> None:
    """Print one row."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--paths', type=int, default=1_000_000)
    parser.add_argument('--longest', type=int, default=250, help='bytes of the longest path')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        file, root = Path(name, 'train.txt'), Path(name, 'images')
        write_list(file, root, args.paths, args.longest)
        gc.collect()
        before, start = resident('VmRSS'), time.perf_counter()
        source = ImageList(str(file), str(root))
        seconds = time.perf_counter() - start
        gc.collect()
        grown, peak = resident('VmRSS') - before, resident('VmHWM') - before
        last = source.name(len(source) - 1)
        assert len(source) == args.paths and last.endswith('x.jpg'), last
        held = len(pickle.dumps(source)) / MB
    print(f'Python {platform.python_version()}; {args.paths:,} paths with one label\n')
    print('| paths | longest, bytes | held, MB | process grows, MB | while reading, MB | s |')
    print('|---:|---:|---:|---:|---:|---:|')
    columns = f'**{held:.0f}** | {grown:.0f} | {peak:.0f} | {seconds:.1f}'
    print(f'| {args.paths:,} | {args.longest} | {columns} |')


if __name__ == '__main__':
    main()
