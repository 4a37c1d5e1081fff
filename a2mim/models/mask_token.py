"""The mask token: what stands at masked positions of a feature map.

Axes: B batch, C channels, (H, W) features, L tokens.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def insert_token(
    features: Tensor,
    masked: Tensor,
    token: Tensor,
    *,
    scale: Tensor | float = 1.0,
    detach: bool = False,
) -> Tensor:
    """Change masked positions only: ``x·(1 − m) + (s·x + t)·m``.

    ``scale`` 1 adds the token to the features, 0 replaces them.

    Args:
        features: x, of any layout.
        masked: m, 1 where masked; broadcasts with ``features``, same dtype.
        token: t; broadcasts with ``features``, same dtype.
        scale: s; a number, or a tensor that broadcasts.
        detach: Block the gradient of masked features.
    """
    content = features.detach() if detach else features
    return torch.lerp(features, scale * content + token, masked)


def batch_mean(features: Tensor, channel_axis: int) -> Tensor:
    """Mean over batch and positions, without gradient; the ranks of a distributed run differ."""
    axes = [axis for axis in range(features.ndim) if axis != channel_axis % features.ndim]
    return features.detach().mean(axes, keepdim=True)


def image_mean(features: Tensor, channel_axis: int) -> Tensor:
    """Mean over the positions of every image, with gradient."""
    axes = [axis for axis in range(1, features.ndim) if axis != channel_axis % features.ndim]
    return features.mean(axes, keepdim=True)


def small_normal(num_channels: int) -> Tensor:
    """Normal values of standard deviation 0.02, cut at 5 standard deviations.

    The reference implementation cuts at ±2, which lets rare values of exactly ±2 through.
    """
    return nn.init.trunc_normal_(torch.empty(num_channels), std=0.02, a=-0.1, b=0.1)


# Factor on masked features, where no gamma is learnt.
SCALES = {'add': 1.0, 'replace': 0.0}
INITS: dict[str, Callable[[int], Tensor]] = {'trunc_normal': small_normal, 'zero': torch.zeros}
FIXED: dict[str, Callable[[int], Tensor]] = {'randn': small_normal, 'zero': torch.zeros}
COMPUTED: dict[str, Callable[[Tensor, int], Tensor]] = {
    'mean': batch_mean,
    'instance_mean': image_mean,
}


class MaskToken(nn.Module):
    """Masks positions of a feature map.

    Its state is ``token`` (C,) unless the value is computed, and ``gamma`` (C,) where
    ``gamma_init`` is set; both lie outside the timm model.

    Args:
        channels: C, the width of the features.
        mode: 'add' adds the token to masked features, 'replace' replaces them.
        gamma_init: Initial value of a learnable factor on masked features (``mode='add'``); 1e-6
            for the paper's convolutional networks. None: the factor is 1.
        init: Initial value of a learnable token: 'trunc_normal' (deviation 0.02) or 'zero'.
        value: 'learnable', a fixed 'randn' or 'zero', or the 'mean' over the batch or over each
            image ('instance_mean'), computed in every pass.
        detach: Block the gradient of masked features (``mode='add'``).

    Shape:
        features: (B, C, H, W) with ``channel_axis`` 1, (B, H, W, C) or (B, L, C) with -1.
        masked: (B, H, W) or (B, L), 1 where masked.
        returns: like ``features``.

    Raises:
        ValueError: If a name is unknown, or an option has no effect with another.

    Reference:
        Li et al., A2MIM, ICML 2023 (https://arxiv.org/abs/2205.13943), section 4.1.
    """

    def __init__(
        self,
        channels: int,
        mode: str = 'add',
        gamma_init: float | None = None,
        init: str = 'trunc_normal',
        value: str = 'learnable',
        detach: bool = False,
    ) -> None:
        super().__init__()
        _check_choice('mode', mode, tuple(SCALES))
        _check_choice('init', init, tuple(INITS))
        _check_choice('value', value, ('learnable', *FIXED, *COMPUTED))
        if mode == 'replace' and (gamma_init is not None or detach):
            raise ValueError(
                f'gamma_init={gamma_init} and detach={detach} act on masked features, which '
                "mode='replace' removes; use mode='add' or leave them out"
            )
        if value != 'learnable' and init != 'trunc_normal':
            raise ValueError(
                f'init={init!r} initialises a learnable token; leave it out with value={value!r}'
            )
        self.token: Tensor
        self.mode = mode
        self.detach = detach
        self.compute = COMPUTED.get(value)
        if value == 'learnable':
            self.token = nn.Parameter(INITS[init](channels))
        elif value in FIXED:
            self.register_buffer('token', FIXED[value](channels))
        gamma = None if gamma_init is None else torch.full((channels,), float(gamma_init))
        self.gamma: nn.Parameter | None
        self.register_parameter('gamma', None if gamma is None else nn.Parameter(gamma))

    def forward(self, features: Tensor, masked: Tensor, channel_axis: int) -> Tensor:
        """Insert the token where ``masked`` is 1."""
        if self.compute is None:
            token = _per_channel(self.token, features, channel_axis)
        else:
            token = self.compute(features, channel_axis)
        scale = SCALES[self.mode]
        if self.gamma is not None:
            scale = _per_channel(self.gamma, features, channel_axis)
        masked = masked.unsqueeze(channel_axis).to(features.dtype)
        return insert_token(features, masked, token, scale=scale, detach=self.detach)


def _per_channel(vector: Tensor, features: Tensor, channel_axis: int) -> Tensor:
    """(C,) in the dtype of ``features``, shaped to broadcast along their channels."""
    vector = vector.to(features.dtype)
    return vector[:, None, None] if channel_axis == 1 else vector


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'{name}={value!r} is not one of {", ".join(map(repr, choices))}')
