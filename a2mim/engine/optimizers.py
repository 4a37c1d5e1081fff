"""Optimisers: parameter groups by rule and by layer, LAMB, and mixed precision on every device."""

import logging
import platform
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from timm.models import group_parameters
from timm.optim import Lamb  # pyright: ignore[reportPrivateImportUsage], listed in its docs
from torch import Tensor, nn

from a2mim.engine.guard import GuardedStep
from a2mim.engine.processes import bare_model
from a2mim.interfaces import TimmNetwork
from a2mim.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

OPTIMIZERS.register_module(module=Lamb)  # timm's; mmengine registers torch's

RULE_OPTIONS = ('weight_decay', 'lr_mult')
PARAMWISE_OPTIONS = ('rules', 'layer_decay', 'layers')
DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}
AUTO = 'auto'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParamRuleConstructor:
    r"""Build an optimiser wrapper whose parameters are grouped by rules on their names.

    Every rule is searched anywhere in the name (``backbone.model.layer1.0.bn1.weight``), in the
    order of the dictionary; where two rules set the same option, the later one wins. Parameters
    that end up with equal options share one group: with a fused optimiser, a handful of groups
    makes a step 3.5 times cheaper than one group per parameter. Frozen parameters are left out.

    Args:
        optim_wrapper_cfg: Config of the wrapper, with the config of the ``optimizer`` inside.
        paramwise_cfg: Any of

            - ``rules``: ``{regex: dict(weight_decay=..., lr_mult=...)}``; ``lr_mult`` multiplies
              the optimiser's learning rate, ``weight_decay`` replaces its weight decay.
            - ``layer_decay``: factor on the learning rate per layer, see ``layer_lr_factors``.
            - ``layers``: the layers of that decay as regular expressions, stem first.

    Raises:
        KeyError: If ``paramwise_cfg`` or a rule has an option of another name.
        ValueError: If a rule is not a regular expression, the optimiser has no ``lr``, ``layers``
            stand without ``layer_decay``, or nothing is left to train.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        _check_names(paramwise_cfg, PARAMWISE_OPTIONS, 'paramwise_cfg')
        self.wrapper_cfg = {'type': 'OptimWrapper', **optim_wrapper_cfg}
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer'))
        if 'lr' not in self.optimizer_cfg:
            raise ValueError(f'optimizer={self.optimizer_cfg} must give lr, the learning rate')
        self.rules = [
            (_compile(pattern), options)
            for pattern, options in (paramwise_cfg.get('rules') or {}).items()
        ]
        for pattern, options in self.rules:
            _check_names(options, RULE_OPTIONS, f'rule {pattern.pattern!r}')
        self.layer_decay = paramwise_cfg.get('layer_decay')
        self.layers = paramwise_cfg.get('layers')
        if self.layers and self.layer_decay is None:
            raise ValueError(f'layers={self.layers} have no effect without layer_decay')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build optimiser and wrapper for the trainable parameters of ``model``."""
        groups = self.param_groups(bare_model(model))
        for group in groups:
            print_log(
                f'learning rate {group["lr"]:.3g}, weight decay {group["weight_decay"]:g}: '
                f'{len(group["params"])} of the trained tensors',
                logger='current',
            )
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        return OPTIM_WRAPPERS.build({**self.wrapper_cfg, 'optimizer': optimizer})

    def param_groups(self, model: nn.Module) -> list[dict]:
        """Named parameters, merged by (learning rate, weight decay), fastest group first.

        The first group is the one whose learning rate the log shows.
        """
        factors: dict[str, float] = {}
        if self.layer_decay is not None:
            factors = layer_lr_factors(model, self.layer_decay, self.layers)
        merged: dict[tuple[float, float], list[tuple[str, Tensor]]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                lr, weight_decay = self.options_of(name)
                merged[lr * factors.get(name, 1.0), weight_decay].append((name, parameter))
        if not merged:
            raise ValueError(f'{type(model).__name__} has no trainable parameter to optimise')
        return [
            dict(params=merged[lr, weight_decay], lr=lr, weight_decay=weight_decay)
            for lr, weight_decay in sorted(merged, reverse=True)
        ]

    def options_of(self, name: str) -> tuple[float, float]:
        """Learning rate and weight decay that the rules give to the parameter ``name``."""
        options = dict(lr_mult=1.0, weight_decay=self.optimizer_cfg.get('weight_decay', 0.0))
        for pattern, changes in self.rules:
            if pattern.search(name):
                options.update(changes)
        return self.optimizer_cfg['lr'] * options['lr_mult'], options['weight_decay']


def _compile(pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f'rule {pattern!r} is not a regular expression: {error}') from error


def _check_names(options: Mapping, accepted: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise KeyError(f'{where} has the unknown option(s) {unknown}; known are {list(accepted)}')


def layer_lr_factors(
    model: nn.Module, decay: float, layers: Sequence[str] | None = None
) -> dict[str, float]:
    """Learning-rate factor of every parameter of the timm model inside ``model``.

    The last layer (head and whatever no pattern matches) has factor 1, each layer below it
    ``decay`` times the one above. Parameters outside the timm model are not in the result.

    timm's own layers equal those of the reference implementation (OpenMixup) for its ViTs and
    ``Beit`` (embeddings, each block, head), unless a class token is read after a last norm: timm
    assigns that norm to the last block, the reference to the head. They differ for Swin (patch
    merging) and for ConvNeXt, where timm counts every block and the reference counts stage 0,
    stage 1, groups of three blocks of stage 2, and stage 3. Such a config gives ``layers``.

    Args:
        model: A timm model, or a module that holds one.
        decay: Factor from one layer to the next lower one, in (0, 1].
        layers: Regular expressions, from the stem up, matched at the start of the names inside
            the timm model. None takes the ``group_matcher`` of the model.

    Raises:
        ValueError: If ``decay`` is outside (0, 1], or there is no timm model with layers.

    Reference:
        Clark et al., ELECTRA, ICLR 2020 (https://arxiv.org/abs/2003.10555), for the decay.
    """
    if not 0 < decay <= 1:
        raise ValueError(f'layer_decay={decay} must lie in (0, 1]; ViTs use 0.65')
    prefix, network = _timm_network(model)
    matcher = dict(enumerate(layers)) if layers else network.group_matcher(coarse=False)
    # Without reverse it would return the names of each layer.
    layer_of = cast(dict[str, int], group_parameters(network, matcher, reverse=True))
    top = max(layer_of.values())
    return {prefix + name: decay ** (top - layer) for name, layer in layer_of.items()}


def _timm_network(model: nn.Module) -> tuple[str, TimmNetwork]:
    """The first module with a ``group_matcher``, and the prefix of its parameters' names."""
    for name, module in model.named_modules():
        if hasattr(module, 'group_matcher'):
            return f'{name}.' if name else '', cast(TimmNetwork, module)
    raise ValueError(
        f'layer_decay needs a timm model with a group_matcher, and {type(model).__name__} holds '
        'none; leave layer_decay out'
    )


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(GuardedStep, MMEngineAmpOptimWrapper):
    """Optimiser wrapper that runs the model under autocast, on the GPU or the CPU.

    mmengine 0.10 refuses ``AmpOptimWrapper`` without a GPU, although its autocast works on the CPU
    in bfloat16, and it scales the loss whatever the dtype. bfloat16 has the exponent range of
    float32, so that its gradients do not underflow, and a loss scaler waits for the device in
    every step. This class can go once mmengine's runs on the CPU and scales the loss in float16
    only.

    Args:
        dtype: ``'bfloat16'``, ``'float16'``, None or ``'auto'``. None takes bfloat16 where the
            device computes in it and float16 elsewhere; a CPU takes bfloat16 for all of these.
            ``'auto'`` takes bfloat16 where the device, also a CPU, has units for it, and float32
            elsewhere.
        loss_scale: Loss scale of float16: ``'dynamic'``, a number, or arguments of
            ``torch.amp.GradScaler``.
        **kwargs: Arguments of ``OptimWrapper``.

    Raises:
        ValueError: If ``dtype`` is not one of the above.
    """

    def __init__(
        self,
        dtype: str | None = None,
        loss_scale: str | float | dict = 'dynamic',
        **kwargs: Any,
    ) -> None:
        device = get_device()
        cast_dtype = autocast_dtype(dtype, device)
        if cast_dtype is torch.float16:
            # mmengine annotates str, and accepts what its docstring says.
            super().__init__(cast(str, loss_scale), cast(str, cast_dtype), **kwargs)
            return
        # Not the parent's, which would refuse the CPU and build a scaler.
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = cast_dtype
        self.loss_scaler = torch.amp.GradScaler(device, enabled=False)
        self._scale_update_param = None
        slow = cast_dtype is torch.bfloat16 and not computes_bfloat16(device)
        if note := _precision_note(dtype, cast_dtype, slow):
            level = logging.WARNING if slow else logging.INFO
            print_log(f'mixed precision: {note}', logger='current', level=level)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, unless the device computes in float32 by ``'auto'``."""
        parent = OptimWrapper if self.cast_dtype is torch.float32 else MMEngineAmpOptimWrapper
        with parent.optim_context(self, model):
            yield

    def step(self, **kwargs: Any) -> None:
        """The guarded step; on an overflow in float16 the scaler skips and shrinks its scale."""
        scaler = self.loss_scaler
        if self.guard is None or not scaler.is_enabled():
            super().step(**kwargs)
            return
        scaler.unscale_(self.optimizer)  # also creates the scale
        scale, growth = cast(Tensor, scaler._scale), cast(Tensor, scaler._growth_tracker)
        self.guard.check(self._clipped_norm(), scale)
        bad = cast(Tensor, self.guard.bad)
        for found_inf in scaler._per_optimizer_states[id(self.optimizer)][
            'found_inf_per_device'
        ].values():
            found_inf.copy_(torch.maximum(found_inf, bad))
        before = scale.clone(), growth.clone()
        scaler.step(self.optimizer, **kwargs)
        scaler.update(self._scale_update_param)
        # What the guard finds is not due to the scale, which would shrink and grow back slowly.
        for state, old in zip((scale, growth), before, strict=True):
            state.copy_(torch.where(bad > 0, old, state))


def autocast_dtype(dtype: str | None, device: str) -> torch.dtype:
    """The dtype of autocast on ``device``, for ``dtype`` as a config gives it."""
    if dtype is not None and dtype not in (*DTYPES, AUTO):
        raise ValueError(f'optim_wrapper.dtype={dtype!r} must be one of {[*DTYPES, AUTO]} or None')
    if dtype == AUTO:
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    if device == 'cpu':
        return torch.bfloat16
    if dtype is not None:
        return DTYPES[dtype]
    return torch.bfloat16 if computes_bfloat16(device) else torch.float16


def computes_bfloat16(device: str) -> bool:
    """Whether ``device`` has units for bfloat16."""
    return cpu_computes_bfloat16() if device == 'cpu' else torch.cuda.is_bf16_supported(False)


def cpu_computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively; true where torch cannot tell (not x86)."""
    if platform.machine().lower() not in ('x86_64', 'amd64'):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _precision_note(asked: str | None, taken: torch.dtype, slow: bool) -> str:
    """What a user should know about the dtype that is taken; empty if it is what was asked for."""
    if slow:
        return (
            'this device has no bfloat16 units, and computes in bfloat16 several times more slowly '
            'than in float32; --precision fp32 or optim_wrapper.type=OptimWrapper switches it off'
        )
    if asked == AUTO:
        has = 'has' if taken is torch.bfloat16 else 'has no'
        return f"{str(taken).removeprefix('torch.')} by 'auto': this device {has} bfloat16 units"
    if asked is not None and taken is not DTYPES[asked]:
        return f'a CPU computes in bfloat16 where {asked} is asked for'
    return ''
