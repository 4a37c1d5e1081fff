"""Two gloo processes train a masked backbone and agree; no parameter is left without a gradient."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from a2mim.models import TimmBackbone

torch.set_num_threads(1)
distributed.init_process_group('gloo')
rank = distributed.get_rank()
torch.manual_seed(0)
image = torch.randn(4, 3, 32, 32)
mask = torch.tensor([[[1., 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]])
own = slice(2 * rank, 2 * rank + 2)
for checkpointing in (False, True):
    backbone = TimmBackbone(
        'vit_tiny_patch16_224', 'blocks.0', grad_checkpointing=checkpointing, img_size=32, depth=2
    )
    model = DistributedDataParallel(backbone)
    for _ in range(2):  # an unused parameter would stop the second pass
        model.zero_grad()
        model(image[own], mask[own]).square().mean().backward()
    shared = {name: p.grad.clone() for name, p in backbone.named_parameters()}
    backbone.zero_grad()
    backbone(image, mask).square().mean().backward()
    for name, p in backbone.named_parameters():
        torch.testing.assert_close(shared[name], p.grad, rtol=1e-4, atol=1e-7, msg=name)
distributed.destroy_process_group()
"""


@pytest.mark.integration
def test_two_ranks_have_the_gradient_of_the_whole_batch(tmp_path):
    environment = {
        **os.environ,
        'WORLD_SIZE': '2',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(29600 + os.getpid() % 300),
        'OMP_NUM_THREADS': '1',
    }
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', SCRIPT],
            env={**environment, 'RANK': str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
