"""Weights of other systems compute in timm's models what they compute at home."""

from functools import partial

import pytest
import timm
import torch
import torchvision
from timm.models.swin_transformer import PatchMerging
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

from a2mim.weights.families import FAMILIES, published_family
from a2mim.weights.names import backbone_state


def randomised(model: nn.Module) -> nn.Module:
    """``model`` in float64, every parameter random: no scale or bias is neutral."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.05, std=0.1)
    return model.double().eval()


def assert_same_outputs(source: nn.Module, state: dict[str, Tensor], name: str, **options):
    target = timm.create_model(name, **options).double().eval()
    target.load_state_dict(state)
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(target(image), source(image), rtol=1e-9, atol=1e-9)


def test_torchvisions_resnet50_becomes_timms_and_goes_back():
    source = torchvision.models.resnet50(num_classes=5).double().eval()
    state = backbone_state(source.state_dict())
    assert_same_outputs(source, state, 'resnet50', num_classes=5)
    torchvision.models.resnet50(num_classes=5).load_state_dict(state)


def test_torchvisions_convnext_becomes_timms():
    widths, depths = (8, 16, 24, 32), (1, 2, 3, 1)
    settings = [
        CNBlockConfig(width, following, depth)
        for width, following, depth in zip(widths, (*widths[1:], None), depths, strict=True)
    ]
    source = randomised(torchvision.models.ConvNeXt(settings, num_classes=5))
    state = backbone_state(source.state_dict())
    options = dict(dims=widths, depths=depths, num_classes=5)
    assert_same_outputs(source, state, 'convnext_tiny', **options)


def test_torchvisions_vit_becomes_timms():
    source = randomised(
        torchvision.models.VisionTransformer(
            image_size=64,
            patch_size=16,
            num_layers=3,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=64,
            num_classes=5,
        )
    )
    state = backbone_state({'model': source.state_dict()})
    options = dict(img_size=64, embed_dim=16, depth=3, num_heads=2, num_classes=5)
    assert_same_outputs(source, state, 'vit_base_patch16_224', **options)


SWIN = dict(embed_dim=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), num_classes=5)


def small_swin(**options: object) -> nn.Module:
    return timm.create_model(
        'swin_tiny_patch4_window7_224', img_size=64, window_size=4, **SWIN, **options
    )


def test_torchvisions_swin_becomes_timms():
    home = dict(patch_size=[4, 4], window_size=[4, 4], stochastic_depth_prob=0.0)
    lists = {key: list(value) for key, value in SWIN.items() if isinstance(value, tuple)}
    source = randomised(torchvision.models.SwinTransformer(**home, **{**SWIN, **lists}))
    state = backbone_state(source.state_dict())
    options = dict(img_size=64, window_size=4, always_partition=True, **SWIN)
    assert_same_outputs(source, state, 'swin_tiny_patch4_window7_224', **options)


class UnfoldMerging(nn.Module):
    """Patch merging as mmcls has it: ``nn.Unfold``, then norm and linear; (B, H, W, C) as timm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1] // 2, x.shape[2] // 2
        x = nn.functional.unfold(x.permute(0, 3, 1, 2), kernel_size=2, stride=2)
        x = self.reduction(self.norm(x.transpose(1, 2)))
        return x.unflatten(1, (height, width))


def published_swin_name(key: str) -> str:
    """The other way round than the importer, and by hand."""
    parts = key.split('.')
    if parts[0] == 'layers' and parts[2] == 'downsample':
        parts[:2] = ['stages', str(int(parts[1]) - 1)]
    elif parts[0] == 'layers':
        parts[0] = 'stages'
    elif parts[0] == 'norm':
        parts[0] = 'norm3'
    name = '.'.join(parts)
    for timms, published in (
        ('.attn.', '.attn.w_msa.'),
        ('.mlp.fc1.', '.ffn.layers.0.0.'),
        ('.mlp.fc2.', '.ffn.layers.1.'),
        ('patch_embed.proj.', 'patch_embed.projection.'),
    ):
        name = name.replace(timms, published)
    return name


def test_a_published_swin_becomes_timms_with_its_merging_in_timms_order():
    source = small_swin()
    for stage in source.layers[1:]:
        assert isinstance(stage.downsample, PatchMerging)
        stage.downsample = UnfoldMerging(stage.downsample.dim)
    source = randomised(source)
    published = {
        f'backbone.{published_swin_name(key)}': value
        for key, value in source.state_dict().items()
        if not key.startswith('head.')
    }
    published['backbone.stages.0.blocks.0.attn.w_msa.relative_position_index'] = torch.zeros(1)
    state = backbone_state(published)
    head = {key: value for key, value in source.state_dict().items() if key.startswith('head.')}
    options = dict(img_size=64, window_size=4, **SWIN)
    assert_same_outputs(source, {**state, **head}, 'swin_tiny_patch4_window7_224', **options)


def test_a_released_swin_merges_before_the_next_stage():
    source = randomised(small_swin())
    released = {}
    for key, value in source.state_dict().items():
        for stage in (1, 2, 3):
            key = key.replace(f'layers.{stage}.downsample', f'layers.{stage - 1}.downsample')
        released[key.replace('head.fc.', 'head.')] = value
    assert published_family(released) == 'released swin'
    options = dict(img_size=64, window_size=4, **SWIN)
    assert_same_outputs(source, backbone_state(released), 'swin_tiny_patch4_window7_224', **options)


def test_a_released_convnext_becomes_timms_as_timm_does_it_itself():
    model = timm.create_model('convnext_tiny', dims=(8, 8, 8, 8), depths=(1, 1, 1, 1))
    released = {}
    for key, value in model.state_dict().items():
        name = key.replace('stem.', 'downsample_layers.0.').replace('.blocks.', '.')
        if '.downsample.' in name:
            name = 'downsample_layers.' + name.removeprefix('stages.').replace('.downsample', '')
        for timms, its in (
            ('conv_dw', 'dwconv'),
            ('mlp.fc', 'pwconv'),
            ('head.norm', 'norm'),
            ('head.fc', 'head'),
        ):
            name = name.replace(timms, its)
        released[name] = value
    assert 'stages.0.0.pwconv1.weight' in released and 'downsample_layers.1.0.bias' in released
    state = backbone_state({'model': released})
    theirs = timm.models.convnext.checkpoint_filter_fn(released, model)
    assert state.keys() == theirs.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], theirs[key]) for key in state)


@pytest.mark.parametrize(
    'name, options',
    [
        ('convnext_small', dict(depths=(3, 3, 5, 3))),
        ('vit_base_patch16_224', dict(depth=2, img_size=64)),
        ('beit_base_patch16_224', dict(depth=2, img_size=64)),
    ],
)
def test_weights_of_timm_pass_as_they_are(name, options):
    build = partial(timm.create_model, name, num_classes=3, **options)
    source = build()
    state = backbone_state(source.state_dict())
    build().load_state_dict(state)
    assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())


# A timm model that has every name of a family.
THERE_AND_BACK = {
    'convnext': 'convnext_tiny',
    'beit': 'beit_base_patch16_224',
    'vision_transformer': 'deit3_base_patch16_224',
    'swin': 'swin_tiny_patch4_window7_224',
    'released swin': 'swin_tiny_patch4_window7_224',
    'torchvision convnext': 'convnext_tiny',
    'torchvision swin': 'swin_tiny_patch4_window7_224',
    'torchvision vision_transformer': 'vit_base_patch16_224',
    'huggingface convnext': 'convnext_tiny',
    'huggingface swin': 'swin_tiny_patch4_window7_224',
    'huggingface dinov2 with swiglu': 'vit_giant_patch14_dinov2',
    'huggingface dinov2': 'vit_small_patch14_dinov2',
    'huggingface vit': 'vit_base_patch16_224',
    'mmseg vision_transformer': 'vit_base_patch16_224',
    'detectron2 resnet': 'resnet50',
    'resnet': 'resnet50',
}


@pytest.mark.parametrize('name', FAMILIES)
def test_names_and_values_come_back_from_every_family(name):
    family = FAMILIES[name]
    with torch.device('meta'):
        shapes = {
            key: value.shape
            for key, value in timm.create_model(THERE_AND_BACK[name]).state_dict().items()
            if value.ndim and value.numel() < 1e6
        }
    state = {key: torch.randn(shape) for key, shape in shapes.items()}
    theirs = family.from_timm(state)
    in_parts = sum(part in key for key in state for part in family.parts)
    assert len(theirs) == len(state) + 2 * in_parts
    assert (theirs.keys() == state.keys()) == (name == 'resnet')
    assert family.marker is None or published_family(theirs) == name
    back = family.to_timm(theirs)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
