"""The timm model of a trunk is told from its config, which is never run, or from its shapes."""

import pytest
import timm
import torch
from mmengine import Config

from a2mim.weights.names import find_backbone
from a2mim.weights.recipe import find_recipe

BEIT = dict(
    img_size=64,
    patch_size=8,
    embed_dim=24,
    depth=3,
    num_heads=2,
    mlp_ratio=3.0,
    qkv_bias=True,
    use_abs_pos_emb=True,
    use_rel_pos_bias=True,
    init_values=0.1,
)


def recipe(state: dict, text: str | None = None) -> tuple[str, dict] | None:
    content = dict(state_dict=state, meta=dict(cfg=text))
    return find_recipe(content, find_backbone(content))


def test_the_config_tells_model_and_options():
    backbone = dict(
        type='TimmBackbone',
        model_name='convnext_atto',
        mask_after='stages.2',
        mask_token=dict(gamma_init=1e-6),
        init_cfg=[dict(type='TruncNormal', layer='Linear')],
        pretrained=True,
        in_chans=1,
        dims=(8, 16, 32, 64),
    )
    text = Config(dict(model=dict(type='A2MIM', backbone=backbone), seed=0)).pretty_text
    expected = 'convnext_atto', dict(in_chans=1, dims=[8, 16, 32, 64])
    assert recipe({'a': torch.ones(1)}, text) == expected


@pytest.mark.parametrize(
    'text',
    [
        'model = dict(backbone=dict(model_name=open("target", "w").name))',
        'open("target", "w")\nmodel = dict(backbone=dict())',
        'model = [',
        'model = 3',
        'seed = 0',
    ],
)
def test_the_config_is_never_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe({'a': torch.ones(1)}, text) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'name, options',
    [
        ('resnet50', {}),
        ('resnet101', {}),
        ('resnet152', {}),
        ('resnet200', {}),
        ('convnext_tiny', {}),
        ('convnext_small', {}),
        ('convnext_base', {}),
        ('beit_base_patch16_224', BEIT),
    ],
)
def test_shapes_tell_the_trunks_of_the_paper(name, options):
    with torch.device('meta'):
        state = timm.create_model(name, num_classes=0, global_pool='', **options).state_dict()
    assert recipe(state) == (name, options)


def test_other_trunks_are_not_guessed():
    with torch.device('meta'):
        state = timm.create_model('resnet26', num_classes=0).state_dict()
    assert recipe(state) is None
    assert recipe({'a': torch.ones(1)}) is None
