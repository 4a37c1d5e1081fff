"""Two gloo processes that train, and resume what they have trained; run by a test.

Usage: two_exact_runs.py DATA FOLDER; the folder receives ``0.pt`` and ``1.pt``.
"""

import multiprocessing
import os
import sys
from pathlib import Path

import torch
from torch import distributed

from a2mim.engine.processes import start_gloo_process
from exact_run import EPOCH, SaveAt, config, differing, run, state

# Batch norm: each process has running statistics of its own.
CHANGES = dict(
    model__backbone__model_name='test_resnet',
    model__backbone__output_stride=16,
    train_dataloader__batch_size=2,
)


def compare(rank: int, data: Path, folder: Path) -> None:
    """Train without a stop, resume from its middle, and write down what differs."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    whole = config(data, folder / 'whole', 'epochs', 'ema', **CHANGES)
    start_gloo_process(whole)
    whole.launcher = 'pytorch'
    runner, witness = run(whole, SaveAt((EPOCH + 3,)))
    file = str(folder / f'whole/iter_{EPOCH + 3}.pth')
    rest = config(data, folder / 'rest', 'epochs', 'ema', load_from=file, resume=True, **CHANGES)
    rest.update(launcher='pytorch', model_wrapper_cfg=whole.model_wrapper_cfg)
    resumed, again = run(rest)
    found = dict(
        steps=differing(
            {i: step for i, step in witness.steps.items() if i >= EPOCH + 3}, again.steps
        ),
        validated=differing([v for v in witness.validated if v[0] >= EPOCH + 3], again.validated),
        state=differing(state(runner), state(resumed)),
        batches={i: step['batch image'] for i, step in again.steps.items()},
        num_validated=len(again.validated),
    )
    torch.save(found, folder / f'{rank}.pt')
    distributed.destroy_process_group()


if __name__ == '__main__':
    # Forked here, where there are no threads yet: one import of torch serves both.
    context = multiprocessing.get_context('fork')
    folders = [Path(name) for name in sys.argv[1:]]
    processes = [context.Process(target=compare, args=(rank, *folders)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
