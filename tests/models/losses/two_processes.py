"""Two gloo processes that share a batch; run by the test of ``sync``, never imported.

Usage: two_processes.py FOLDER, which holds ``batch.pt`` and receives ``0.pt`` and ``1.pt``.
"""

import multiprocessing
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from a2mim.models.spectral_losses import FocalFrequencyLoss


def train_step(rank: int, folder: Path) -> None:
    """Forward and backward pass over this process's half of the batch."""
    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    batch = torch.load(folder / 'batch.pt', weights_only=True)
    network = torch.nn.Conv2d(2, 2, 3, padding=1).double()
    network.load_state_dict(batch['weights'])
    model = DistributedDataParallel(network)
    image, target = (batch[name].chunk(2)[rank] for name in ('image', 'target'))
    loss = FocalFrequencyLoss(sync=True)(model(image), target)
    loss.backward()
    torch.save({'loss': loss.detach(), 'grad': network.weight.grad}, folder / f'{rank}.pt')
    distributed.destroy_process_group()


if __name__ == '__main__':
    # Forked here, where there are no threads yet: one import of torch serves both.
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=train_step, args=(r, Path(sys.argv[1]))) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
