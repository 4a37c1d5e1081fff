"""Parameter names of other systems, and what becomes of them in timm.

``FAMILIES`` has one table for each system and architecture, which import and export both read:
OpenMixup 0.2.10 (and mmcls and MMPretrain, whose names it has), the original releases of ConvNeXt
and Swin, torchvision 0.29, MMSegmentation, detectron2 and transformers (4 and 5). Names that no
table has are timm's already: ResNet, and the ViTs of the MAE, BEiT, DeiT and DINO releases.
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

# Parts of names, theirs and timm's: ^ and $ are the ends of a name, # is a number. To timm they
# apply in order, each to what the ones before it made; from timm in the reverse order. Of two
# names for one of timm's, the later one is written and the earlier one only read.
Pairs = tuple[tuple[str, str], ...]

# timm merges patches before a stage, the others after the one below it.
MERGING: Pairs = tuple(
    (f'^layers.{stage}.downsample.', f'^layers.{stage + 1}.downsample.') for stage in (2, 1, 0)
)
RELEASED_HEAD: Pairs = tuple((f'^head.{leaf}$', f'^head.fc.{leaf}$') for leaf in ('weight', 'bias'))
CONVNEXT: Pairs = (
    ('^downsample_layers.0.', '^stem.'),
    ('^downsample_layers.#.', '^stages.#.downsample.'),
    ('^stages.#.#.', '^stages.#.blocks.#.'),
    ('.dwconv.', '.conv_dw.'),  # of the release
    ('.depthwise_conv.', '.conv_dw.'),
    ('.pwconv#.', '.mlp.fc#.'),
    ('.pointwise_conv#.', '.mlp.fc#.'),
    *RELEASED_HEAD,
    ('^norm.', '^head.norm.'),
    ('^norm3.', '^head.norm.'),
)
MLP: Pairs = (('.ffn.layers.0.0.', '.mlp.fc1.'), ('.ffn.layers.1.', '.mlp.fc2.'))
BEIT: Pairs = (
    ('^patch_embed.projection.', '^patch_embed.proj.'),
    ('^layers.', '^blocks.'),
    ('^ln1.', '^norm.'),
    ('.ln#.', '.norm#.'),
    *MLP,
)
# MMSegmentation's class has the attention of torch.
MMSEG_VIT: Pairs = (
    *BEIT,
    ('.attn.attn.in_proj_', '.attn.qkv.'),
    ('.attn.attn.out_proj.', '.attn.proj.'),
)
SWIN: Pairs = (
    ('^patch_embed.projection.', '^patch_embed.proj.'),
    ('^stages.', '^layers.'),
    *MERGING,
    ('.attn.w_msa.', '.attn.'),
    *MLP,
    ('^norm3.', '^norm.'),
)
# torchvision keeps the stages and what stands before each of them in one list.
TORCHVISION_CONVNEXT: Pairs = (
    ('^features.0.', '^stem.'),
    *((f'^features.{2 * i}.', f'^stages.{i}.downsample.') for i in (1, 2, 3)),
    *((f'^features.{2 * i + 1}.', f'^stages.{i}.blocks.') for i in range(4)),
    ('.block.0.', '.conv_dw.'),
    ('.block.2.', '.norm.'),
    ('.block.3.', '.mlp.fc1.'),
    ('.block.5.', '.mlp.fc2.'),
    ('.layer_scale$', '.gamma$'),
    ('^classifier.0.', '^head.norm.'),
    ('^classifier.2.', '^head.fc.'),
)
TORCHVISION_SWIN: Pairs = (
    ('^features.0.0.', '^patch_embed.proj.'),
    ('^features.0.2.', '^patch_embed.norm.'),
    *((f'^features.{2 * i}.', f'^layers.{i}.downsample.') for i in (1, 2, 3)),
    *((f'^features.{2 * i + 1}.', f'^layers.{i}.blocks.') for i in range(4)),
    ('.mlp.0.', '.mlp.fc1.'),
    ('.mlp.3.', '.mlp.fc2.'),
    ('^head.', '^head.fc.'),
)
TORCHVISION_VIT: Pairs = (
    ('^class_token$', '^cls_token$'),
    ('^encoder.pos_embedding$', '^pos_embed$'),
    ('^conv_proj.', '^patch_embed.proj.'),
    ('^encoder.layers.encoder_layer_', '^blocks.'),
    ('^encoder.ln.', '^norm.'),
    ('.ln_#.', '.norm#.'),
    ('.self_attention.in_proj_', '.attn.qkv.'),
    ('.self_attention.out_proj.', '.attn.proj.'),
    ('.mlp.linear_1.', '.mlp.fc1.'),  # before torchvision 0.12
    ('.mlp.linear_2.', '.mlp.fc2.'),
    ('.mlp.0.', '.mlp.fc1.'),
    ('.mlp.3.', '.mlp.fc2.'),
    ('^heads.head.', '^head.'),
)
DETECTRON2_RESNET: Pairs = (
    ('^stem.conv1.norm.', '^bn1.'),
    ('^stem.conv1.', '^conv1.'),
    *((f'^res{i + 1}.', f'^layer{i}.') for i in (1, 2, 3, 4)),
    ('.shortcut.norm.', '.downsample.1.'),
    ('.shortcut.', '.downsample.0.'),
    ('.conv#.norm.', '.bn#.'),
)


# transformers: the names of its files, which both version 4 and 5 write.
HF_ATTENTION: Pairs = (
    *((f'.attention.attention.{name}.', f'.attn.{name[0]}.') for name in ('query', 'key', 'value')),
    ('.attention.output.dense.', '.attn.proj.'),
)
# The names that its modules have in memory since version 5.
HF_ATTENTION_5: Pairs = (
    *((f'.attention.{letter}_proj.', f'.attn.{letter}.') for letter in 'qkv'),
    ('.attention.o_proj.', '.attn.proj.'),
)
HF_BLOCK: Pairs = (
    ('.layernorm_before.', '.norm1.'),
    ('.layernorm_after.', '.norm2.'),
    ('.intermediate.dense.', '.mlp.fc1.'),
    ('.output.dense.', '.mlp.fc2.'),
    ('^layernorm.', '^norm.'),
)
HF_EMBEDDINGS: Pairs = (
    *((f'^embeddings.{name}$', f'^{name}$') for name in ('cls_token', 'mask_token')),
    ('^embeddings.register_tokens$', '^register_tokens$'),
    ('^embeddings.distillation_token$', '^dist_token$'),
    ('^embeddings.position_embeddings$', '^pos_embed$'),
    ('^embeddings.patch_embeddings.projection.', '^patch_embed.proj.'),
    ('^encoder.layer.', '^blocks.'),
)
HF_VIT: Pairs = (*HF_EMBEDDINGS, *HF_ATTENTION, *HF_BLOCK)
HF_VIT_5: Pairs = (('^layers.', '^blocks.'), *HF_ATTENTION_5)
HF_DINOV2: Pairs = (
    *HF_EMBEDDINGS,
    *HF_ATTENTION,
    ('.layer_scale#.lambda1$', '.ls#.gamma$'),
    ('^layernorm.', '^norm.'),
)
HF_SWIGLU: Pairs = (('.mlp.weights_in.', '.mlp.fc1.'), ('.mlp.weights_out.', '.mlp.fc2.'))
HF_SWIGLU_5: Pairs = (
    ('.mlp.gate_proj.', '.mlp.gate.'),
    ('.mlp.up_proj.', '.mlp.up.'),
    ('.mlp.down_proj.', '.mlp.fc2.'),
)
HF_SWIN: Pairs = (
    ('^embeddings.patch_embeddings.projection.', '^patch_embed.proj.'),
    ('^embeddings.norm.', '^patch_embed.norm.'),
    ('^encoder.layers.', '^layers.'),
    *MERGING,
    *((f'.attention.self.{name}.', f'.attn.{name[0]}.') for name in ('query', 'key', 'value')),
    ('.attention.output.dense.', '.attn.proj.'),
    ('.attention.self.relative_position_', '.attn.relative_position_'),
    *HF_BLOCK,
)
HF_SWIN_5: Pairs = (*HF_ATTENTION_5, ('.attention.relative_position_bias.', '.attn.'))
HF_CONVNEXT: Pairs = (
    ('^embeddings.patch_embeddings.', '^stem.0.'),
    ('^embeddings.layernorm.', '^stem.1.'),
    ('^encoder.stages.#.downsampling_layer.', '^stages.#.downsample.'),
    ('^encoder.stages.#.layers.#.', '^stages.#.blocks.#.'),
    ('.layer_scale_parameter$', '.gamma$'),
    ('.dwconv.', '.conv_dw.'),
    ('.layernorm.', '.norm.'),
    ('^layernorm.', '^head.norm.'),
    ('.pwconv#.', '.mlp.fc#.'),
)
# What timm keeps in one tensor, and others in several: rows after rows.
QKV = {'.attn.qkv.': ('.attn.q.', '.attn.k.', '.attn.v.')}
SWIGLU = {'.mlp.fc1.': ('.mlp.gate.', '.mlp.up.')}


def unfolded_to_timm(key: str, tensor: Tensor) -> Tensor:
    """Patch merging: columns from channel, row, column (an unfold) to timm's column, row, channel.

    The same holds for the norm before it.
    """
    if '.downsample.' not in key:
        return tensor
    cells = tensor.unflatten(-1, (-1, 2, 2))  # (…, C, row, column)
    return cells.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


def timm_to_unfolded(key: str, tensor: Tensor) -> Tensor:
    """The inverse of ``unfolded_to_timm``."""
    if '.downsample.' not in key:
        return tensor
    cells = tensor.unflatten(-1, (2, 2, -1))  # (…, column, row, C)
    return cells.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


def flat_layer_scale(key: str, tensor: Tensor) -> Tensor:
    """Layer scale of torchvision (C, 1, 1) as timm's (C,)."""
    return tensor.flatten() if key.endswith('.gamma') else tensor


def spatial_layer_scale(key: str, tensor: Tensor) -> Tensor:
    """The inverse of ``flat_layer_scale``."""
    return tensor[:, None, None] if key.endswith('.gamma') else tensor


def unchanged(key: str, tensor: Tensor) -> Tensor:
    """Values that are the same in both systems."""
    return tensor


@dataclass(frozen=True)
class Family:
    """One architecture in the names of one system.

    Attributes:
        marker: A key that it has, and those before it in ``FAMILIES`` have not; None for names
            that are written only.
        pairs: Its names and timm's.
        import_value, export_value: Its values to timm's and back, given timm's name.
        read_only: Further names of it and timm's, which are not written.
        parts: What it keeps in several tensors, by timm's part of the name.
    """

    marker: str | None
    pairs: Pairs
    import_value: Callable[[str, Tensor], Tensor] = unchanged
    export_value: Callable[[str, Tensor], Tensor] = unchanged
    read_only: Pairs = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of this family in timm's names."""
        pairs = (*self.read_only, *self.pairs)
        named = {rename(key, pairs): tensor for key, tensor in state.items()}
        named = join_parts(named, {**self.parts, **SWIGLU}) if self.parts else named
        return {key: self.import_value(key, tensor) for key, tensor in named.items()}

    def from_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of timm in the names of this family."""
        state = split_parts(state, self.parts)
        return {self.their_name(key): self.export_value(key, t) for key, t in state.items()}

    def their_name(self, key: str) -> str:
        """A name of timm in this family."""
        return rename(key, tuple((timms, theirs) for theirs, timms in reversed(self.pairs)))


# In this order: the marker of 'vision_transformer' is in the files of 'beit' too.
FAMILIES = {
    'convnext': Family('downsample_layers.0.0.weight', CONVNEXT),
    'beit': Family('layers.0.attn.relative_position_bias_table', BEIT),
    'vision_transformer': Family('layers.0.ln1.weight', (*BEIT, ('.gamma_#$', '.ls#.gamma$'))),
    'swin': Family(
        'stages.0.blocks.0.attn.w_msa.qkv.weight', SWIN, unfolded_to_timm, timm_to_unfolded
    ),
    'released swin': Family('layers.0.downsample.reduction.weight', (*MERGING, *RELEASED_HEAD)),
    'torchvision convnext': Family(
        'features.1.0.layer_scale', TORCHVISION_CONVNEXT, flat_layer_scale, spatial_layer_scale
    ),
    'torchvision swin': Family('features.1.0.attn.relative_position_bias_table', TORCHVISION_SWIN),
    'torchvision vision_transformer': Family('conv_proj.weight', TORCHVISION_VIT),
    'huggingface convnext': Family('embeddings.patch_embeddings.weight', HF_CONVNEXT),
    'huggingface swin': Family(
        'encoder.layers.0.blocks.0.layernorm_before.weight', HF_SWIN, read_only=HF_SWIN_5, parts=QKV
    ),
    'huggingface dinov2 with swiglu': Family(
        'encoder.layer.0.mlp.weights_in.bias', (*HF_SWIGLU, *HF_DINOV2), parts=QKV
    ),
    'huggingface dinov2': Family(
        'encoder.layer.0.layer_scale1.lambda1',
        HF_DINOV2,
        read_only=(*HF_SWIGLU_5, *HF_ATTENTION_5),
        parts=QKV,
    ),
    'huggingface vit': Family(
        'embeddings.position_embeddings', HF_VIT, read_only=HF_VIT_5, parts=QKV
    ),
    'mmseg vision_transformer': Family(None, MMSEG_VIT),
    'detectron2 resnet': Family(None, DETECTRON2_RESNET),
    'resnet': Family(None, ()),
}


def join_parts(
    state: Mapping[str, Tensor], parts: Mapping[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """``state`` with the tensors of each part, which are all there, as one."""
    joined = dict(state)
    for whole, names in parts.items():
        for key in [key for key in state if names[0] in key]:
            group = [key.replace(names[0], name) for name in names]
            if all(name in joined for name in group):
                joined[key.replace(names[0], whole)] = torch.cat([joined.pop(k) for k in group])
    return joined


def split_parts(
    state: Mapping[str, Tensor], parts: Mapping[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """The inverse of ``join_parts``."""
    split = dict(state)
    for whole, names in parts.items():
        for key in [key for key in state if whole in key]:
            rows = split.pop(key).chunk(len(names))
            split.update({key.replace(whole, n): part for n, part in zip(names, rows, strict=True)})
    return split


def rename(key: str, pairs: Pairs) -> str:
    """``key`` with every first name of ``pairs`` replaced by the second."""
    for old, new in pairs:
        pattern, replacement = _compile(old, new)
        key = pattern.sub(replacement, key)
    return key


@cache
def _compile(old: str, new: str) -> tuple[re.Pattern[str], str]:
    pattern = re.escape(old)
    for escaped, special in ((r'\^', '^'), (r'\$', '$'), (r'\#', r'(\d+)')):
        pattern = pattern.replace(escaped, special)
    first, *rest = new.strip('^$').split('#')
    groups = (rf'\g<{number}>{part}' for number, part in enumerate(rest, start=1))
    return re.compile(pattern), ''.join((first, *groups))


def published_family(names: Container[str]) -> str | None:
    """Family of a backbone with these keys; None if they are timm's, or nobody's."""
    marked = ((name, family.marker) for name, family in FAMILIES.items())
    return next((name for name, marker in marked if marker and marker in names), None)
