"""The trunk is found in files of every origin."""

import pytest
import torch

from a2mim.weights.names import backbone_state, find_backbone, unwrap

ONE = torch.ones(1)


def test_our_pretraining_checkpoint_gives_timms_names():
    content = dict(
        state_dict={
            'backbone.model.conv1.weight': ONE,
            'backbone.mask_token.token': ONE,
            'neck.projection.weight': ONE,
            'data_preprocessor.mean': ONE,
        },
        ema_state_dict={'module.backbone.model.conv1.weight': ONE * 2},
        meta=dict(epoch=1),
        optimizer=dict(state={}),
    )
    trunk = find_backbone(content)
    assert trunk.state == {'conv1.weight': ONE}
    assert trunk.prefix == 'backbone.model.'
    assert trunk.kept == ['backbone.model.conv1.weight']
    assert trunk.dropped == [
        'backbone.mask_token.token',
        'neck.projection.weight',
        'data_preprocessor.mean',
    ]


@pytest.mark.parametrize(
    'key',
    [
        'conv1.weight',
        'module.conv1.weight',
        'backbone.conv1.weight',
        'module._orig_mod.backbone.model.conv1.weight',
        '_orig_mod.module.model.conv1.weight',
        'encoder_q.conv1.weight',
        'encoder.conv1.weight',
        'base_encoder.conv1.weight',
        'timm_model.conv1.weight',
    ],
)
@pytest.mark.parametrize('wrapper', [None, 'state_dict', 'model', 'model_state_dict'])
def test_prefixes_and_wrappers_are_taken_off(key, wrapper):
    state = {key: ONE, 'head.bias': ONE} if key.split('.')[-2] != 'conv1' else {key: ONE}
    content = state if wrapper is None else {wrapper: state, 'epoch': 3}
    assert list(backbone_state(content)) == ['conv1.weight']


@pytest.mark.parametrize('key, name', [
    ('module.0.weight', '0.weight'),
    ('backbone.module._orig_mod.conv1.weight', 'backbone.conv1.weight'),
    ('blocks.0._orig_mod.norm1.weight', 'blocks.0.norm1.weight'),
    ('layers._fsdp_wrapped_module.0._checkpoint_wrapped_module.fc.bias', 'layers.0.fc.bias'),
    ('stages.0.blocks.1.mixer.module.3.bn.bias', 'stages.0.blocks.1.mixer.module.3.bn.bias'),
    ('submodule.weight', 'submodule.weight'),
])  # fmt: skip
def test_wrappers_are_taken_out_anywhere_and_timms_own_module_stays(key, name):
    assert unwrap(key) == name


def test_a_published_file_is_translated_and_its_raw_copies_left_out():
    content = dict(
        state_dict={
            'backbone.layers.0.ln1.weight': ONE,
            'backbone.layers.0.attn.relative_position_bias_table': ONE,
            'backbone.layers.0.attn.relative_position_index': ONE,
            'backbone.mask_token': ONE,
            'ema_backbone_layers_0_ln1_weight': ONE,
            'head.fc.weight': ONE,
        },
        author='openmixup',
    )
    trunk = find_backbone(content)
    assert trunk.family == 'beit'
    assert set(trunk.state) == {
        'blocks.0.norm1.weight',
        'blocks.0.attn.relative_position_bias_table',
    }
    assert len(trunk.dropped) == 4


def test_a_file_without_weights_is_refused():
    with pytest.raises(ValueError, match=r"no weights found; the file has the entries \['meta'\]"):
        find_backbone(dict(meta=dict(epoch=3)))
