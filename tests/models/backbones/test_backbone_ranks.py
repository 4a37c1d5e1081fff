"""Two gloo processes train a masked backbone and agree; no parameter is left without a gradient."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from a2mim.models import TimmBackbone

# Forked here, where there are no threads yet: one import of torch serves both.
other = os.fork()
rank = int(other == 0)
torch.set_num_threads(1)
distributed.init_process_group('gloo', init_method=f'file://{sys.argv[1]}', rank=rank, world_size=2)
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
if rank == 0:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


@pytest.mark.integration
def test_two_ranks_have_the_gradient_of_the_whole_batch(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, str(tmp_path / 'store')],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
