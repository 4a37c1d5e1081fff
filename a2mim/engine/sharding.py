"""Sharding with FSDP2: the model wrapper, checkpoints of sharded models, and excluded options.

Checkpoints are those of an unsharded run: one file with whole tensors, which either wrapper reads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import cast

from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size, is_main_process
from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from a2mim.registry import MODEL_WRAPPERS

CONTAINERS = (nn.Sequential, nn.ModuleList)
Clip = Callable[..., Tensor | None]  # clips the gradients of parameters, and returns their norm


def is_sharded(parameters: Iterable[Tensor]) -> bool:
    """Whether any of ``parameters`` is sharded over processes."""
    return any(isinstance(parameter, DTensor) for parameter in parameters)


def full_tensor(tensor: Tensor) -> Tensor:
    """``tensor``, gathered from all processes if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class WholeStates:
    """Let ``state_dict`` of a sharded model and its optimiser save and load whole tensors.

    Whatever reads or writes a ``state_dict`` finds the same entries in the same order as without
    sharding. ``torch.distributed.checkpoint.state_dict`` gathers too, but it keys the optimiser's
    state by parameter name where all other runs' files number it, and takes a step with zero
    gradients where the state is empty.

    Args:
        model: The model, sharded already.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimizer: Optimizer | None = None
        self._weights: dict[str, object] = {}
        self._moments: dict[int, dict] = {}
        model.register_load_state_dict_pre_hook(self._share_weights)
        # torch marks the hook, which a bound method does not allow.
        model.register_state_dict_post_hook(partial(self._put_weights))

    def attach(self, optimizer: Optimizer) -> None:
        """Do the same for ``optimizer``, from now on."""
        if optimizer is not self.optimizer:
            self.optimizer = optimizer
            optimizer.register_load_state_dict_pre_hook(self._share_moments)
            optimizer.register_state_dict_post_hook(self._put_moments)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Collect all tensors on the CPU of the first process; every process has to call it.

        Within the block that process may ask for states as often as it likes, alone.
        """
        weights = {name: whole(value) for name, value in self.model.state_dict().items()}
        moments = {
            index: {name: whole(value) for name, value in values.items()}
            for index, values in cast(Optimizer, self.optimizer).state_dict()['state'].items()
        }
        if is_main_process():
            self._weights, self._moments = weights, moments
        try:
            yield
        finally:
            self._weights, self._moments = {}, {}

    def _put_weights(self, model: nn.Module, state: dict, prefix: str, *_: object) -> None:
        state.update({prefix + name: tensor for name, tensor in self._weights.items()})

    def _put_moments(self, optimizer: Optimizer, state: dict) -> dict:
        return {**state, 'state': self._moments or state['state']}

    def _share_weights(self, model: nn.Module, state: dict, prefix: str, *_: object) -> None:
        for name, parameter in model.named_parameters():
            if prefix + name in state:
                state[prefix + name] = share(state[prefix + name], parameter)

    def _share_moments(self, optimizer: Optimizer, state: dict) -> dict:
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        moments = {
            index: {name: share(value, parameters[index]) for name, value in values.items()}
            for index, values in state['state'].items()
        }
        return {**state, 'state': moments}


def whole(value: object) -> object:
    """A sharded tensor as a whole one, kept on the CPU of the first process and nowhere else."""
    if not isinstance(value, DTensor):
        return value
    tensor = value.full_tensor()
    return tensor.cpu() if is_main_process() else None


def share(value: object, parameter: Tensor) -> object:
    """``value`` split as ``parameter`` is, if it is a tensor of its shape.

    Every process ends with its share of what the first one has.
    """
    if (
        not isinstance(value, Tensor)
        or isinstance(value, DTensor)
        or not isinstance(parameter, DTensor)
        or value.shape != parameter.shape
    ):
        return value
    value = value.detach().to(parameter.device, parameter.dtype)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The units of sharding: the innermost modules in a list of modules of one class.

    timm builds every family from such lists: ``blocks`` of a ViT, ``stages.2.blocks`` of a
    ConvNeXt, ``layer3`` of a ResNet, ``layers.0.blocks`` of a Swin. Parameters are gathered block
    by block, so that a process never holds more than a few of them; what is outside the blocks
    (embeddings, norms, decoder, head) is one more unit.
    """
    return [block for child in model.children() for block in blocks_below(child, alone=True)]


def blocks_below(module: nn.Module, *, alone: bool) -> list[nn.Module]:
    """Blocks in ``module``, or ``module`` itself if it is one and has none inside.

    Args:
        module: Where to look.
        alone: Whether ``module`` is no part of a row.
    """
    in_row = is_row(module)
    inside = [
        block for child in module.children() for block in blocks_below(child, alone=not in_row)
    ]
    return inside if inside or alone else [module]


def is_row(module: nn.Module) -> bool:
    """Whether ``module`` is a list of at least two trained modules of one class.

    Not of further lists: under gradient checkpointing timm calls the modules in a list itself.
    """
    children = [*module.children()]
    return (
        isinstance(module, CONTAINERS)
        and len(children) > 1
        and len({type(child) for child in children}) == 1
        and not isinstance(children[0], CONTAINERS)
        and all(any(True for _ in child.parameters()) for child in children)
    )


@MODEL_WRAPPERS.register_module()
class FullyShard(nn.Module):
    """torch's ``fully_shard`` for a model of mmengine: shard weights, gradients and moments.

    Each of n processes keeps 1/n of everything that grows with the number of parameters, and
    gathers the blocks one at a time to compute with them. Parameter names, optimiser groups and
    checkpoints are those of the unsharded model, which has to fit into the memory of each device
    once, before it is sharded.

    Chosen by ``model_wrapper_cfg=dict(type='FullyShard')``, which has no effect with one process.

    Args:
        module: The model, on its device.

    Reference:
        Zhao et al., PyTorch FSDP, VLDB 2023 (https://arxiv.org/abs/2304.11277).
    """

    def __init__(self, module: BaseModel) -> None:
        super().__init__()
        # Afterwards whole tensors could not be written to the shards.
        module.init_weights()
        for tensor in module.state_dict().values():
            broadcast(tensor)
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        blocks = repeated_blocks(module)
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
        self.module = module
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
        # Read by the backward pass, when the context of the wrapper is over.
        cast(FSDPModule, self.module).set_requires_gradient_sync(optim_wrapper.should_sync())
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
        """Let ``optim_wrapper`` save, load and clip sharded tensors."""
        self.states.attach(optim_wrapper.optimizer)
        if optim_wrapper.clip_grad_kwargs and not isinstance(optim_wrapper.clip_func, WholeNorm):
            clip = WholeNorm(cast(Clip, optim_wrapper.clip_func))
            optim_wrapper.clip_func = clip  # pyright: ignore[reportAttributeAccessIssue], inferred

    def gathered(self) -> AbstractContextManager[None]:
        """A block in which the first process can save; every process has to enter it."""
        return self.states.gathered()


class WholeNorm:
    """Gradient clipping that returns a norm which every process can read.

    Args:
        clip: ``torch.nn.utils.clip_grad_norm_`` or a like; it clips by the norm over all shards,
            and returns it as a sharded tensor.
    """

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def __call__(self, parameters: Sequence[Tensor], **options: object) -> Tensor | None:
        """Clip in place."""
        norm = self.clip(parameters, **options)
        return None if norm is None else full_tensor(norm)


def check_sharding(runner: Runner) -> None:
    """Refuse a sharded run with an option that does not work on shards.

    Raises:
        ValueError: For an average of the weights, which copies the model or updates it outside of
            an optimiser; for float16, whose loss scale would differ between processes; and for a
            compiled model.
    """
    if not isinstance(runner.model, FullyShard):
        return
    wrapper = runner.cfg.optim_wrapper
    half = wrapper.get('type') == 'AmpOptimWrapper' and wrapper.get('dtype') == 'float16'
    teacher = getattr(runner.model.module, 'teacher', None)
    asked = {
        "teacher='ema', which is updated in the forward pass": hasattr(teacher, 'decay'),
        'EMAHook, which copies the model': any(isinstance(h, EMAHook) for h in runner.hooks),
        "optim_wrapper.dtype='float16'; take 'bfloat16', which needs no loss scale": half,
        'compile': bool(runner.cfg.get('compile')),
    }
    for feature, present in asked.items():
        if present:
            raise ValueError(
                f"model_wrapper_cfg.type='FullyShard' does not go together with {feature}; leave "
                'it out, or leave model_wrapper_cfg out to train with DDP'
            )
