"""The wrapper that shards a model, in the place where DDP copies it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from a2mim.engine.sharding.blocks import repeated_blocks
from a2mim.engine.sharding.whole_states import WholeStates
from a2mim.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class FullyShard(nn.Module):
    """torch's ``fully_shard`` for a model of mmengine: weights, gradients and moments in shares.

    Of n processes each keeps an n-th of everything that grows with the number of parameters, and
    collects the blocks one at a time when it computes with them. Names of parameters, groups of
    the optimiser and checkpoints are those of the plain model. The model has to fit whole into
    the memory of each device once, before it is sharded.

    Chosen by ``model_wrapper_cfg=dict(type='FullyShard')``; with one process there is nothing to
    share, and the entry has no effect.

    Args:
        module: The model, on its device.

    Reference:
        Zhao et al., PyTorch FSDP, VLDB 2023 (https://arxiv.org/abs/2304.11277).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        # Later it would have to write whole tensors into shares.
        module.init_weights()
        for tensor in module.state_dict().values():
            broadcast(tensor)
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        blocks = repeated_blocks(module)
        for block in blocks:
            fully_shard(block, mesh=mesh)
        self.module = fully_shard(module, mesh=mesh)
        self.states = WholeStates(module)
        print_log(
            f'sharded over {get_world_size()} processes: {len(blocks)} blocks and the rest',
            logger='current',
        )

    def forward(self, *args: object, **kwargs: object) -> object:
        """What the model returns."""
        return self.module(*args, **kwargs)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One iteration: losses, gradients and, where accumulation ends, an optimiser step."""
        # Read by the backward pass, so that the context of the wrapper would be over too early.
        self.module.set_requires_gradient_sync(optim_wrapper.should_sync())
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, training=True)
            losses = self(**data, mode='loss')
        loss, terms = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return terms

    def val_step(self, data: dict) -> object:
        """Predictions of the model."""
        return self.module.val_step(data)

    def test_step(self, data: dict) -> object:
        """Predictions of the model."""
        return self.module.test_step(data)

    def adopt(self, optim_wrapper: OptimWrapper) -> None:
        """Let ``optim_wrapper`` read, write and clip what is sharded."""
        self.states.follow(optim_wrapper.optimizer)
        if optim_wrapper.clip_grad_kwargs and not isinstance(optim_wrapper.clip_func, WholeNorm):
            optim_wrapper.clip_func = WholeNorm(optim_wrapper.clip_func)

    def gathered(self) -> AbstractContextManager[None]:
        """A block in which the first process can save; every process has to enter it."""
        return self.states.gathered()


class WholeNorm:
    """Gradient clipping whose norm is a number that every process knows.

    Args:
        clip: ``torch.nn.utils.clip_grad_norm_`` or another of its kind; it clips by the norm over
            all shares, and returns it as a sharded tensor.
    """

    def __init__(self, clip: Callable[..., Tensor | None]) -> None:
        self.clip = clip

    def __call__(self, parameters: Sequence[Tensor], **options: object) -> Tensor | None:
        """Clip in place."""
        norm = self.clip(parameters, **options)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm
