"""Two gloo processes that share batches; run by the tests of joint batch norm, never imported.

Usage: joint_batch.py FOLDER, which receives ``0.pt`` and ``1.pt``: by case, what a process computed
on its part of the batch that the test makes again.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine import Config
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, distributed, nn
from torch._dynamo import lookup_backend
from torch.utils.data import DataLoader

from a2mim.engine.host_waits import StepCounts
from a2mim.engine.mmengine_fixes import compile_forward
from a2mim.engine.runner import ToolRunner
from a2mim.engine.sync_batch_norm import JointBatchNorm, join_batch_norm
from host_sync import no_host_sync

CONFIGS = Path(__file__).parents[1] / 'configs/openmixup/pretrain'
R50 = 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300.py'
# Images of each process, of six.
SPLITS = {'equal': (3, 3), 'unequal': (5, 1), 'empty': (6, 0)}
# The second has layers of norm and activation in one.
NETWORKS = ('resnet10t', 'mobilenetv3_small_050')


def network(name: str) -> nn.Module:
    """The same weights in every process, in double precision."""
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5).double()


def images() -> Tensor:
    """Six images whose channels are far from zero mean."""
    torch.manual_seed(1)
    return torch.randn(6, 3, 32, 32, dtype=torch.float64) + 3


def results(model: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Any]:
    """Output, gradients and buffers after one forward and backward pass."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    output = forward(x)
    output.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return dict(output=output.detach(), image=x.grad, gradients=gradients, buffers=buffers)


def part(x: Tensor, rank: int, sizes: tuple[int, int]) -> Tensor:
    """The images of one process."""
    return x.split(sizes)[rank]


def in_compiled_ddp(x: Tensor) -> dict[str, Any]:
    """One pass in DDP, whose graph is split where the all-reduce of a bucket can begin."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        graphs.append(graph)
        return lookup_backend('aot_eager')(graph, inputs)

    model = join_batch_norm(network('resnet10t'))
    wrapped = MMDistributedDataParallel(model, gradient_as_bucket_view=True)
    compile_forward(wrapped, dict(backend=backend))
    return dict(results(model, wrapped, x), buckets=len(graphs))


def train_by_runner(folder: Path, rank: int) -> dict[str, Any]:
    """Two steps of the published recipe with a smaller network: none waits for the device."""
    cfg = Config.fromfile(CONFIGS / R50)
    cfg.model.backbone.model_name = 'resnet10t'
    sample = dict(
        image=torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8),
        mask=torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8),
    )
    runner = ToolRunner(
        model=cfg.model.to_dict(),
        work_dir=str(folder / 'run'),
        train_dataloader=DataLoader([sample] * 4, batch_size=2),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=cfg.optim_wrapper.to_dict(),
        param_scheduler={**cfg.param_scheduler.to_dict(), 'warmup': 0},
        default_hooks=dict(logger=dict(type='LoggerHook', interval=50), checkpoint=None),
        log_processor=cfg.log_processor.to_dict(),
        default_scope='a2mim',
        experiment_name='joint',
        launcher='pytorch',
        cfg=Config(
            dict(
                sync_bn='torch',
                model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None),
            )
        ),
    )
    run_iter, counts = runner.train_loop.run_iter, []

    def guarded(*args: object) -> None:
        with no_host_sync(), StepCounts() as found:
            run_iter(*args)
        counts.append((dict(found.forward), dict(found.backward)))

    runner.train_loop.run_iter = guarded
    runner.train()
    layers = sum(isinstance(layer, JointBatchNorm) for layer in runner.model.modules())
    views = runner.model.gradient_as_bucket_view
    return dict(layers=layers, counts=counts, views=views)


def compute(rank: int, folder: Path) -> None:
    """All cases, in the same order in both processes."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for name in NETWORKS:
        for split, sizes in SPLITS.items():
            model = join_batch_norm(network(name))
            found[f'{name} {split}'] = results(model, model, part(images(), rank, sizes))
    model = join_batch_norm(network('resnet10t'))
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    found['compiled'] = results(model, compiled, part(images(), rank, SPLITS['equal']))
    found['compiled in DDP'] = in_compiled_ddp(part(images(), rank, SPLITS['equal']))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(images()[:0])
    found['nothing'] = (before, dict(model.named_buffers()))
    found['runner'] = train_by_runner(folder, rank)
    torch.save(found, folder / f'{rank}.pt')
    distributed.destroy_process_group()


if __name__ == '__main__':
    # Forked here, where there are no threads yet: one import of torch serves both.
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=compute, args=(r, Path(sys.argv[1]))) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
