"""Two gloo processes that build the loaders of some folders; run by a test, never imported.

Usage: two_processes_walk.py FOLDER ROOT …, where each process writes ``RANK.json``, for each root:
how often it walked, the images, or the error. Afterwards files are added, and process 0 builds a
source alone.
"""

import json
import multiprocessing
import sys
from pathlib import Path

from torch import distributed

from a2mim.datasets import folder_scan, image_files
from a2mim.engine.runner import ToolRunner


def run(rank: int, folder: Path, roots: list[Path]) -> None:
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    found = [build(rank, root) for root in roots]
    (folder / f'{rank}.json').write_text(json.dumps(found))
    distributed.destroy_process_group()


def build(rank: int, root: Path) -> dict[str, object]:
    walks, walk = [], folder_scan.scan_folder

    def counted(folder: str) -> folder_scan.FolderScan:
        walks.append(folder)
        return walk(folder)

    folder_scan.scan_folder = image_files.scan_folder = counted
    loader = dict(
        dataset=dict(
            type='a2mim.ImageDataset',
            source=dict(type='a2mim.ImageFolder', root=str(root), with_labels=True),
            pipeline=[],
        ),
        sampler=dict(type='a2mim.EpochSampler', seed=0),
        batch_size=2,
        num_workers=0,
    )
    try:
        source = ToolRunner.build_dataloader(loader).dataset.source
        found = dict(
            names=[source.name(index) for index in range(len(source))],
            labels=source.labels.tolist(),
        )
        (root / 'a' / f'late{rank}.png').touch()  # seen by who walks by itself
        distributed.barrier()
        found['alone'] = len(image_files.ImageFolder(str(root))) if rank == 0 else 0
    except Exception as error:
        found = dict(error=repr(error))
    folder_scan.scan_folder = image_files.scan_folder = walk
    return dict(found, walks=len(walks))


if __name__ == '__main__':
    context = multiprocessing.get_context('fork')
    folder, *roots = map(Path, sys.argv[1:])
    processes = [context.Process(target=run, args=(rank, folder, roots)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
