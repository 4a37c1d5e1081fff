"""timm's names in torchvision, for the architectures that both have."""

from dataclasses import dataclass

from a2mim.checkpoint.key_maps import Rules


@dataclass(frozen=True)
class Family:
    """Rules for the names of the weights, and the module that is torchvision's classifier."""

    rules: Rules
    classifier: str


# torchvision keeps stages and what stands before each of them in one list.
CONVNEXT = Family(
    (
        (r'^stem\.', 'features.0.'),
        (r'^head\.norm\.', 'classifier.0.'),
        (r'^head\.fc\.', 'classifier.2.'),
        *((rf'^stages\.{i}\.downsample\.', f'features.{2 * i}.') for i in (1, 2, 3)),
        *((rf'^stages\.{i}\.blocks\.', f'features.{2 * i + 1}.') for i in range(4)),
        (r'\.conv_dw\.', '.block.0.'),
        (r'\.norm\.', '.block.2.'),
        (r'\.mlp\.fc1\.', '.block.3.'),
        (r'\.mlp\.fc2\.', '.block.5.'),
        (r'\.gamma$', '.layer_scale'),
    ),
    'classifier.2',
)
SWIN = Family(
    (
        (r'^patch_embed\.proj\.', 'features.0.0.'),
        (r'^patch_embed\.norm\.', 'features.0.2.'),
        (r'^head\.fc\.', 'head.'),
        *((rf'^layers\.{i}\.downsample\.', f'features.{2 * i}.') for i in (1, 2, 3)),
        *((rf'^layers\.{i}\.blocks\.', f'features.{2 * i + 1}.') for i in range(4)),
        (r'\.mlp\.fc1\.', '.mlp.0.'),
        (r'\.mlp\.fc2\.', '.mlp.3.'),
    ),
    'head',
)
VIT = Family(
    (
        (r'^cls_token$', 'class_token'),
        (r'^pos_embed$', 'encoder.pos_embedding'),
        (r'^patch_embed\.proj\.', 'conv_proj.'),
        (r'^norm\.', 'encoder.ln.'),
        (r'^head\.', 'heads.head.'),
        (r'^blocks\.(\d+)\.', r'encoder.layers.encoder_layer_\1.'),
        (r'\.norm(\d)\.', r'.ln_\1.'),
        (r'\.attn\.qkv\.', '.self_attention.in_proj_'),
        (r'\.attn\.proj\.', '.self_attention.out_proj.'),
        (r'\.mlp\.fc1\.', '.mlp.0.'),
        (r'\.mlp\.fc2\.', '.mlp.3.'),
    ),
    'heads.head',
)
RESNET = Family((), 'fc')
RESNETS = (
    'resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152', 'resnext50_32x4d',
    'resnext101_32x8d', 'resnext101_64x4d', 'wide_resnet50_2', 'wide_resnet101_2',
)  # fmt: skip
# Name in timm, without its tag: name in torchvision, family.
TWINS: dict[str, tuple[str, Family]] = {
    **{name: (name, RESNET) for name in RESNETS},
    **{f'convnext_{size}': (f'convnext_{size}', CONVNEXT) for size in ('tiny', 'small', 'base')},
    **{
        f'swin_{size}_patch4_window7_224': (f'swin_{size[0]}', SWIN)
        for size in ('tiny', 'small', 'base')
    },
    'vit_base_patch16_224': ('vit_b_16', VIT),
    'vit_base_patch32_224': ('vit_b_32', VIT),
    'vit_large_patch16_224': ('vit_l_16', VIT),
    'vit_large_patch32_224': ('vit_l_32', VIT),
    'vit_huge_patch14_224': ('vit_h_14', VIT),
    'deit_base_patch16_224': ('vit_b_16', VIT),
}
