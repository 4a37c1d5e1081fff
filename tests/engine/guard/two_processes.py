"""Two gloo processes, of which one has a bad loss; run by a test, never imported.

Usage: two_processes.py FOLDER, where each process writes ``RANK FUSED.pt`` for both forms of the
optimiser: what it had after each of four updates. Process 1 has the bad loss in the second, and
asks to stop before the fourth.
"""

import multiprocessing
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from a2mim.engine.guard import UpdateGuard, UpdateResult
from a2mim.engine.mmengine_fixes import OptimWrapper
from a2mim.engine.replay import on_cpu


def run(rank: int, folder: Path) -> None:
    """Both forms, one after the other."""
    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    for fused in (False, True):
        torch.save(train(rank, fused), folder / f'{rank} {fused}.pt')
    distributed.destroy_process_group()


def train(rank: int, fused: bool) -> dict[str, list]:
    """Four updates, and what there is after each."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model = DistributedDataParallel(network, broadcast_buffers=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    wrapper, results = OptimWrapper(optimizer), []
    wrapper.guard = guard = UpdateGuard(network, optimizer, results.append)
    torch.manual_seed(1 + rank)
    states = []
    for iteration in range(4):
        guard.begin(iteration, None)
        guard.stop_requested = rank == 1 and iteration == 3
        bad = rank == 1 and iteration == 1
        loss = model(torch.randn(5, 3) * (float('nan') if bad else 1)).square().mean()
        wrapper.update_params(loss)
        states.append(on_cpu(dict(weights=network.state_dict(), optimizer=optimizer.state_dict())))
    guard.settle()
    return dict(states=states, said=[said(result) for result in results])


def said(result: UpdateResult) -> tuple[bool, ...]:
    """What both processes have to agree on, and the last what they do not."""
    return result.bad, result.bad_loss, result.stop, result.own_bad_loss


if __name__ == '__main__':
    # Forked here, where there are no threads yet: one import of torch serves both.
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=run, args=(r, Path(sys.argv[1]))) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
