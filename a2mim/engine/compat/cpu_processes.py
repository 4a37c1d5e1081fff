"""Several processes on a machine without GPU: gloo instead of NCCL, no device ids.

mmengine 0.10 calls ``torch.cuda.set_device`` for every launcher and backend, and gives DDP the
local rank as the device. A process group that exists already is used as it is, and a
``model_wrapper_cfg`` replaces the device ids: nothing has to be patched. This file can go once
mmengine starts gloo processes on the CPU by itself.
"""

from mmengine import Config
from torch import distributed


def start_gloo_process(cfg: Config) -> None:
    """Join the process group that torchrun announced, and fit ``cfg`` to a CPU.

    ``sync_bn`` is dropped: torch implements synchronised batch norm for GPUs only.
    """
    distributed.init_process_group('gloo')
    cfg.sync_bn = None
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    given = cfg.get('model_wrapper_cfg', {})
    if given.get('type', wrapper['type']) == wrapper['type']:
        cfg.model_wrapper_cfg = {**wrapper, **given, 'device_ids': None}
