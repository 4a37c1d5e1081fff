"""Leave patches out of a plain ViT of timm, whose own modules compute what is left.

Axes: B batch, L patches, V of them visible, P prefix tokens (class, registers), D width.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.beit import Attention, Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.autograd import Variable

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.models.timm_inspection import num_prefix_tokens


def pick(rows: Tensor, index: Tensor) -> Tensor:
    """The rows (B, N, D) at ``index`` (B, n), as (B, n, D)."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


class VisibleTokens:
    """Runs a ViT of timm on some of its patches, from after its absolute positions on.

    timm's own modules compute everything; hooks cut the tokens and what is as long as these.

    Attributes:
        num_prefix: P.
        index: (B, V), the patches to keep during ``encode``; None keeps all, as does whatever else
            runs the network.

    Raises:
        ValueError: If tokens of the network cannot be left out.
    """

    def __init__(self, backbone: TimmBackbone) -> None:
        cut = find_cut(backbone.model)
        self.backbone, self.num_prefix = backbone, num_prefix_tokens(backbone.model)
        self.index: Tensor | None = None
        cut(self, backbone.model)

    def encode(self, image: Tensor, index: Tensor) -> Tensor:
        """Tokens (B, P + V, D) of the patches at ``index`` (B, V)."""
        self.index = index
        try:
            tokens = self.backbone._encode(image)
        finally:
            self.index = None
        if tokens.requires_grad and not torch.compiler.is_compiling():
            tokens.register_hook(partial(self._again, index))
        return tokens

    def _again(self, index: Tensor, _gradient: Tensor) -> None:
        """With gradient checkpointing, blocks run again in the backward pass that begins here."""
        self.index = index
        Variable._execution_engine.queue_callback(self._stop)

    def _stop(self) -> None:
        self.index = None

    # Bound methods, not closures: copy.deepcopy (EMA) rebinds them to the copy.
    def cut(self, _module: nn.Module, _inputs: tuple, tokens: Tensor) -> Tensor:
        """The prefix tokens and the patches at ``index``, of (B, P + L, D)."""
        if self.index is None:
            return tokens
        prefix, patches = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        return torch.cat([prefix, pick(patches, self.index)], dim=1)

    def cut_and_tell(self, *call: Any) -> tuple[Tensor, Tensor | None]:
        """``cut``, and ``index``, by which ``Eva`` cuts its rotary positions."""
        return self.cut(*call), self.index

    def between(self, bias: Tensor) -> Tensor:
        """A bias (…, heads, P + L, P + L) between the tokens that are left, for each image."""
        if self.index is None:
            return bias
        prefix = torch.arange(self.num_prefix, device=bias.device)
        index = [prefix.expand(len(self.index), -1), self.index + self.num_prefix]
        kept = torch.cat(index, dim=1)  # (B, P + V)
        return bias.flatten(0, -3)[:, kept[:, :, None], kept[:, None, :]].transpose(0, 1)

    def cut_bias(self, _module: nn.Module, _inputs: tuple, bias: Tensor) -> Tensor:
        """``between`` as a hook."""
        return self.between(bias)


class VisibleAttention(Attention):
    """The attention of ``Beit``, with relative positions of the tokens that are there."""

    tokens: VisibleTokens

    def _get_rel_pos_bias(self) -> Tensor:
        return self.tokens.between(super()._get_rel_pos_bias())


def cut_vit(tokens: VisibleTokens, model: Any) -> None:
    """Absolute positions are part of the tokens already."""
    model.patch_drop.register_forward_hook(tokens.cut)


def cut_eva(tokens: VisibleTokens, model: Any) -> None:
    """Rotary positions are cut by timm, by the indices that its patch dropout returns."""
    model.patch_drop = nn.Identity()
    model.patch_drop.register_forward_hook(tokens.cut_and_tell)


def cut_beit(tokens: VisibleTokens, model: Any) -> None:
    """Relative positions are a bias of each block, or one that all share."""
    model.pos_drop.register_forward_hook(tokens.cut)
    if model.rel_pos_bias is not None:
        model.rel_pos_bias.register_forward_hook(tokens.cut_bias)
    for block in model.blocks:
        if block.attn.relative_position_bias_table is not None:
            block.attn.__class__ = VisibleAttention
            block.attn.tokens = tokens


FAMILIES: dict[type, Callable[[VisibleTokens, Any], None]] = {
    VisionTransformer: cut_vit,
    Beit: cut_beit,
    Eva: cut_eva,
}


def find_cut(model: Any) -> Callable[[VisibleTokens, Any], None]:
    """How tokens of ``model`` are cut.

    Raises:
        ValueError: If it is no plain ViT of timm, its stem mixes patches, or it drops some itself.
    """
    forward, name = getattr(type(model), 'forward_features', None), type(model).__name__
    cuts = [cut for family, cut in FAMILIES.items() if family.forward_features is forward]
    if not cuts:
        known = ', '.join(family.__name__ for family in FAMILIES)
        raise ValueError(
            f'MAE leaves patches out of plain ViTs of timm ({known}), not of {name}: pre-train it '
            "with type='A2MIM' (--method a2mim), which takes any network, or a CNN with "
            "type='SparK' (--method spark)"
        )
    stem = model.patch_embed
    if not isinstance(stem, PatchEmbed) or stem.proj.kernel_size != stem.proj.stride:
        raise ValueError(
            f'the stem of this {name} ({type(stem).__name__}) mixes pixels of several patches, '
            "masked ones too: pre-train it with type='A2MIM' (--method a2mim)"
        )
    if not isinstance(getattr(model, 'patch_drop', None), nn.Identity | None):
        raise ValueError('MAE drops the patches of the mask: leave patch_drop_rate out')
    return cuts[0]
