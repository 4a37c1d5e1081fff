"""The mask token: what stands at hidden positions of a feature map.

Axes: B batch, C channels, (H, W) features, L tokens.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def insert_token(
    features: Tensor,
    hidden: Tensor,
    token: Tensor,
    *,
    scale: Tensor | float = 1.0,
    detach: bool = False,
) -> Tensor:
    """Change hidden positions only: ``x·(1 − m) + (s·x + t)·m``.

    ``scale`` 1 adds the token to what is there, 0 replaces it, anything between keeps a trace.

    Args:
        features: x, of any layout.
        hidden: m, 1 where hidden; broadcasts with ``features``, same dtype.
        token: t; broadcasts with ``features``, same dtype.
        scale: s; a number, or a tensor that broadcasts.
        detach: Let no gradient reach hidden features.
    """
    below = features.detach() if detach else features
    return torch.lerp(features, scale * below + token, hidden)


def batch_mean(features: Tensor, channel_axis: int) -> Tensor:
    """Mean over batch and positions, without gradient; the ranks of a distributed run differ."""
    axes = [axis for axis in range(features.ndim) if axis != channel_axis % features.ndim]
    return features.detach().mean(axes, keepdim=True)


def image_mean(features: Tensor, channel_axis: int) -> Tensor:
    """Mean over the positions of every image, with gradient."""
    axes = [axis for axis in range(1, features.ndim) if axis != channel_axis % features.ndim]
    return features.mean(axes, keepdim=True)


def small_normal(num_channels: int) -> Tensor:
    """Normal numbers of deviation .02, cut at five deviations.

    The published cut at ±2 is no cut at all, but lets a rare number of exactly ±2 through.
    """
    return nn.init.trunc_normal_(torch.empty(num_channels), std=0.02, a=-0.1, b=0.1)


# Share of hidden features that stays below the token, where no gamma is learnt.
KEPT = {'add': 1.0, 'replace': 0.0}
INITS: dict[str, Callable[[int], Tensor]] = {'trunc_normal': small_normal, 'zero': torch.zeros}
FIXED: dict[str, Callable[[int], Tensor]] = {'randn': small_normal, 'zero': torch.zeros}
COMPUTED: dict[str, Callable[[Tensor, int], Tensor]] = {
    'mean': batch_mean,
    'instance_mean': image_mean,
}


class MaskToken(nn.Module):
    """Hides positions of a feature map from everything that comes after it.

    Its state is ``token`` (C,) unless the value is computed, and ``gamma`` (C,) where
    ``gamma_init`` is set: both beside the trunk, never inside it.

    Args:
        channels: C, the width of the features.
        mode: 'add' keeps hidden features below the token, 'replace' removes them.
        gamma_init: Start of a learnable factor on hidden features (``mode='add'``); the paper's
            convolutional networks start at 1e-6. None: hidden features keep their size.
        init: Start of a learnable token: 'trunc_normal' (deviation .02) or 'zero'.
        value: 'learnable', a fixed 'randn' or 'zero', or the 'mean' over the batch or over each
            image ('instance_mean'), computed anew in every pass.
        detach: Let no gradient reach hidden features (``mode='add'``).

    Shape:
        features: (B, C, H, W) with ``channel_axis`` 1, (B, H, W, C) or (B, L, C) with -1.
        hidden: (B, H, W) or (B, L), 1 where hidden.
        returns: like ``features``.

    Raises:
        ValueError: If a name is unknown, or an option has no effect beside another.

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
        _check_choice('mode', mode, tuple(KEPT))
        _check_choice('init', init, tuple(INITS))
        _check_choice('value', value, ('learnable', *FIXED, *COMPUTED))
        if mode == 'replace' and (gamma_init is not None or detach):
            raise ValueError(
                f'gamma_init={gamma_init} and detach={detach} act on hidden features, which '
                "mode='replace' removes; use mode='add' or leave them out"
            )
        if value != 'learnable' and init != 'trunc_normal':
            raise ValueError(
                f'init={init!r} starts a learnable token; leave it out with value={value!r}'
            )
        self.mode = mode
        self.detach = detach
        self.compute = COMPUTED.get(value)
        if value == 'learnable':
            self.token = nn.Parameter(INITS[init](channels))
        elif value in FIXED:
            self.register_buffer('token', FIXED[value](channels))
        gamma = None if gamma_init is None else torch.full((channels,), float(gamma_init))
        self.register_parameter('gamma', None if gamma is None else nn.Parameter(gamma))

    def forward(self, features: Tensor, hidden: Tensor, channel_axis: int) -> Tensor:
        """Put the token where ``hidden`` is 1."""
        if self.compute is None:
            token = _per_channel(self.token, features, channel_axis)
        else:
            token = self.compute(features, channel_axis)
        scale = KEPT[self.mode]
        if self.gamma is not None:
            scale = _per_channel(self.gamma, features, channel_axis)
        hidden = hidden.unsqueeze(channel_axis).to(features.dtype)
        return insert_token(features, hidden, token, scale=scale, detach=self.detach)


def _per_channel(vector: Tensor, features: Tensor, channel_axis: int) -> Tensor:
    """(C,) in the dtype of ``features``, shaped to broadcast along their channels."""
    vector = vector.to(features.dtype)
    return vector[:, None, None] if channel_axis == 1 else vector


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'{name}={value!r} is not one of {", ".join(map(repr, choices))}')
