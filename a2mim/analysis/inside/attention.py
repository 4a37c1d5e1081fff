"""Attention of vision transformers, as their own modules compute it.

Axes: B batch, A heads, N tokens of which P prefix (class, registers) come first, (h, w) patches.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar('T')


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules in ``blocks`` that attend with a softmax over tokens, by path.

    Raises:
        ValueError: If there are none, or the model has no one grid of patches (Swin, PVT, XCiT).
    """
    modules = {
        name: module
        for name, module in model.named_modules()
        if name.startswith('blocks.')
        and hasattr(module, 'fused_attn')
        and isinstance(getattr(module, 'attn_drop', None), nn.Module)
    }
    grid = getattr(getattr(model, 'patch_embed', None), 'grid_size', None)
    if not modules or grid is None:
        raise ValueError(
            f'{type(model).__name__} has no attention between all patches that can be read; give '
            'a vision transformer (ViT, DeiT, BEiT, EVA), not a CNN, Swin or CaiT'
        )
    return modules


def read_attention(model: nn.Module, images: Tensor, reduce: Callable[[Tensor], T]) -> dict[str, T]:
    """What ``reduce`` makes of every (B, A, N, N) in one pass; rows are queries and sum to 1.

    The fused kernel is off for this pass: it keeps no weights. Position biases and rotary
    embeddings are in the weights, since the modules themselves compute them.

    Raises:
        ValueError: See ``attention_modules``; or if the weights are not those of all tokens.
    """
    modules, found = attention_modules(model), {}
    grid = token_grid(model, (images.shape[-2], images.shape[-1]))
    num_tokens = num_prefix(model) + grid[0] * grid[1]

    def take(name: str, attention: Tensor) -> None:
        if attention.ndim != 4 or tuple(attention.shape[-2:]) != (num_tokens, num_tokens):
            raise ValueError(
                f'{type(model).__name__}: {name!r} attends with weights of shape '
                f'{tuple(attention.shape)}, not between all {num_tokens} tokens'
            )
        found[name] = reduce(attention)

    with ExitStack() as stack, torch.no_grad():
        for name, module in modules.items():
            stack.callback(setattr, module, 'fused_attn', module.fused_attn)
            module.fused_attn = False
            handle = module.attn_drop.register_forward_pre_hook(
                lambda _module, inputs, name=name: take(name, inputs[0])
            )
            stack.callback(handle.remove)
        model(images)
    return found


def token_grid(model: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) patches of an image of (H, W) pixels; timm may be built for another size."""
    embed = model.patch_embed
    if hasattr(embed, 'dynamic_feat_size'):
        return embed.dynamic_feat_size(image_size)
    return tuple(embed.grid_size)


def num_prefix(model: nn.Module) -> int:
    """P."""
    return getattr(model, 'num_prefix_tokens', 0)


def attention_distance(
    attention: Tensor, grid: tuple[int, int], patch: tuple[float, float]
) -> Tensor:
    """Mean distance between query and key patches, weighted by attention.

    Prefix tokens lie nowhere: their rows and columns are left out, and the rest of each row is
    scaled to a sum of 1.

    Args:
        attention: (B, A, N, N), prefix tokens first.
        grid: (h, w) patches.
        patch: (height, width) of one, in pixels.

    Returns:
        (B, A) float64, in pixels.

    Reference:
        Dosovitskiy et al., ViT, ICLR 2021 (https://arxiv.org/abs/2010.11929), figure 7; Raghu et
        al., NeurIPS 2021 (https://arxiv.org/abs/2108.08810), section 4.
    """
    prefix = attention.shape[-1] - grid[0] * grid[1]
    weights = attention[..., prefix:, prefix:].double()
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float).tiny)
    axes = [torch.arange(n, device=weights.device) * p for n, p in zip(grid, patch, strict=True)]
    places = torch.cartesian_prod(*axes).double()  # (h·w, 2)
    return (weights * torch.cdist(places, places)).sum(dim=-1).mean(dim=-1)


def attention_map(
    model: nn.Module, attention: Tensor, grid: tuple[int, int], query: int | None
) -> Tensor:
    """(B, A, h, w): weights that a query gives to the patches.

    Args:
        model: It has a class token or not.
        attention: (B, A, N, N).
        grid: (h, w).
        query: Number of a patch, by rows; None for the class token, or without one the mean of
            all patches.
    """
    prefix = num_prefix(model)
    if query is not None:
        row = attention[:, :, prefix + query]
    elif has_class_token(model):
        row = attention[:, :, 0]
    else:
        row = attention[:, :, prefix:].mean(dim=2)
    return row[..., prefix:].unflatten(-1, grid)


def has_class_token(model: nn.Module) -> bool:
    """Whether the first token stands for the image."""
    return getattr(model, 'cls_token', None) is not None
