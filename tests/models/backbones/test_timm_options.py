"""Options of TimmBackbone: each reaches the model, or is refused; none is dropped in silence."""

import pytest
import torch

from a2mim.models.timm_backbone import TimmBackbone

SMALL_BEIT = dict(img_size=64, embed_dim=48, depth=2, num_heads=4)


@pytest.mark.parametrize(
    'name, options, scale',
    [
        ('convnext_atto', dict(ls_init_value=None), 'gamma'),
        ('convnext_atto', dict(ls_init_value=None, num_classes=5), 'gamma'),
        ('convnext_atto.d2_in1k', dict(ls_init_value=None), 'gamma'),
        ('beit_base_patch16_224', dict(init_values=None, **SMALL_BEIT), 'gamma_1'),
        ('mambaout_femto', dict(ls_init_value=None), 'gamma'),
    ],
)
def test_none_reaches_the_model(name, options, scale):
    state = TimmBackbone(name, **options).model.state_dict()
    assert not [key for key in state if key.rpartition('.')[2] == scale]


def test_options_of_timm_itself_may_be_none():
    backbone = TimmBackbone(
        'convnext_atto', ls_init_value=None, pretrained_cfg=None, cache_dir=None
    )
    assert backbone.out_channels == 320


@pytest.mark.parametrize(
    'name, option',
    [
        ('resnet18', dict(image_size=None)),  # no option of the family
        ('cait_xxs24_224', dict(init_values=None)),  # always has a layer scale
        ('swiftformer_xs', dict(img_size=192)),  # accepted and never read
        ('efficientformer_l1', dict(img_size=224)),
        ('samvit_base_patch16_224', dict(weight_init='jax')),
        ('mobilenetv5_300m_enc', dict(num_classes=10)),  # timm's filter
        ('mobilenetv5_300m_enc', dict(global_pool='avg')),
        ('resnet18', dict(final_norm=False)),  # has no such norm
    ],
)
def test_an_option_without_effect_is_refused(name, option):
    (key,) = option
    with pytest.raises(TypeError, match=rf'{name} does not take.*{key}|{key}=.*leave'):
        TimmBackbone(name, **option)


@pytest.mark.parametrize(
    'name, option, shows',
    [
        ('efficientnet_lite0', dict(bn_eps=0.25), 'eps=0.25'),  # read before the constructor
        ('levit_128s', dict(drop_path_rate=0.5), 'drop_prob=0.5'),  # handed on as keywords
        ('regnetx_002', dict(output_stride=8), 'dilation=(2, 2)'),  # part of a configuration
        ('vit_tiny_patch16_224', dict(img_size=224, depth=1), 'Block'),  # the default value
    ],
)
def test_an_option_that_shows_is_accepted(name, option, shows):
    assert shows in repr(TimmBackbone(name, **option).model)


def test_the_check_leaves_random_numbers_alone():
    drawn = []
    for option in (dict(), dict(bn_eps=1e-5)):  # the default, so that two more models are built
        torch.manual_seed(0)
        TimmBackbone('test_efficientnet', **option)
        drawn.append(torch.rand(1))
    assert torch.equal(*drawn)
