"""Mixed precision on every device: bfloat16 autocast on the CPU, no loss scaling where none helps.

mmengine 0.10 refuses ``AmpOptimWrapper`` without a GPU, although its autocast works on the CPU in
bfloat16, and it scales the loss whatever the dtype. bfloat16 has the exponent range of float32,
so that its gradients do not underflow; and a loss scaler waits for the device in every step.
This file can go once mmengine's wrapper runs on the CPU and scales the loss in float16 only.
"""

import logging
import platform

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper

from a2mim.engine.guard import GuardedStep
from a2mim.registry import OPTIM_WRAPPERS

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(GuardedStep, MMEngineAmpOptimWrapper):
    """Optimiser wrapper that runs the model under autocast, on the GPU or the CPU.

    Args:
        dtype: ``'bfloat16'``, ``'float16'`` or None, which takes bfloat16 where the device
            computes in it and float16 elsewhere. The CPU always takes bfloat16.
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
        **kwargs: object,
    ) -> None:
        device = get_device()
        cast_dtype = autocast_dtype(dtype, device)
        if cast_dtype is torch.float16:
            super().__init__(loss_scale, cast_dtype, **kwargs)
            return
        # Past the parent, which would refuse the CPU and build a scaler.
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = cast_dtype
        self.loss_scaler = torch.amp.GradScaler(device, enabled=False)
        self._scale_update_param = None
        if device == 'cpu' and not cpu_computes_bfloat16():
            print_log(
                'mixed precision: this CPU has no bfloat16 units, and bfloat16 is 2 to 4 times '
                'slower on it than float32; optim_wrapper.type=OptimWrapper switches it off',
                logger='current',
                level=logging.WARNING,
            )

    def step(self, **kwargs: object) -> None:
        """The guarded step; a float16 scaler goes on to skip and mend what overflows by itself."""
        scaler = self.loss_scaler
        if self.guard is None or not scaler.is_enabled():
            super().step(**kwargs)
            return
        scaler.unscale_(self.optimizer)
        self.guard.judge(self._clipped_norm(), scaler._scale)
        bad = self.guard.bad
        for found_inf in scaler._per_optimizer_states[id(self.optimizer)][
            'found_inf_per_device'
        ].values():
            found_inf.copy_(torch.maximum(found_inf, bad))
        before = scaler._scale.clone(), scaler._growth_tracker.clone()
        scaler.step(self.optimizer, **kwargs)
        scaler.update(self._scale_update_param)
        # What the guard finds is no matter of the scale, which would shrink and grow back slowly.
        for state, old in zip((scaler._scale, scaler._growth_tracker), before, strict=True):
            state.copy_(torch.where(bad > 0, old, state))


def autocast_dtype(dtype: str | None, device: str) -> torch.dtype:
    """The dtype of autocast on ``device``, for ``dtype`` as a config gives it."""
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f'optim_wrapper.dtype={dtype!r} must be one of {[*DTYPES]} or None')
    if device == 'cpu':
        return torch.bfloat16
    if dtype is not None:
        return DTYPES[dtype]
    return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16


def cpu_computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively; true where torch cannot tell (not x86)."""
    if platform.machine().lower() not in ('x86_64', 'amd64'):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
