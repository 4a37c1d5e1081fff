"""Published names become timm's; that the numbers agree is tested with the backbones."""

import pytest
import torch

from a2mim.weights.names import find_backbone, to_a2mim

ONE = torch.ones(1)


def state(*names: str) -> dict[str, torch.Tensor]:
    return dict.fromkeys(names, ONE)


VIT = ('layers.0.ln1.weight', 'ln1.bias', 'layers.0.ffn.layers.0.0.bias', 'layers.0.gamma_1')
TABLE = 'layers.0.attn.relative_position_bias_table'
QKV = 'layers.0.attn.qkv.weight'
CONVNEXT = ('downsample_layers.0.0.weight', 'stages.0.0.depthwise_conv.weight')


@pytest.mark.parametrize(
    'names, family, renamed',
    [
        (
            ('layer1.0.conv1.weight', 'layer1.0.downsample.1.weight'),
            None,
            ['layer1.0.conv1.weight', 'layer1.0.downsample.1.weight'],
        ),
        (
            ('downsample_layers.0.0.weight', 'stages.2.26.pointwise_conv2.bias', 'norm3.weight'),
            'convnext',
            ['stem.0.weight', 'stages.2.blocks.26.mlp.fc2.bias', 'head.norm.weight'],
        ),
        (
            (*VIT, TABLE),
            'beit',
            [
                'blocks.0.norm1.weight',
                'norm.bias',
                'blocks.0.mlp.fc1.bias',
                'blocks.0.gamma_1',
                'blocks.0.attn.relative_position_bias_table',
            ],
        ),
        (
            VIT,
            'vision_transformer',
            ['blocks.0.norm1.weight', 'norm.bias', 'blocks.0.mlp.fc1.bias', 'blocks.0.ls1.gamma'],
        ),
    ],
)
def test_names_become_timms(names, family, renamed):
    trunk = find_backbone(state(*names))
    assert (trunk.family, list(trunk.state)) == (family, renamed)


def test_what_timm_does_not_have_is_left_out():
    own = state('mask_token', 'mask_gamma', *VIT, 'layers.0.attn.relative_position_index')
    assert len(find_backbone(own).state) == len(VIT)


def test_foreign_names_are_refused():
    with pytest.raises(ValueError, match=r'no family that is translated.*features.0.weight'):
        to_a2mim(state('features.0.weight'))


@pytest.mark.parametrize(
    'decoder', ['neck.decoder_pred.0.weight', 'neck.decoder.0.weight'], ids=['a2mim', 'simmim']
)
def test_a_whole_pretraining_model_becomes_ours(decoder):
    published = {
        'backbone.layer1.0.conv1.weight': ONE,
        'backbone.mask_token': torch.zeros(1, 5, 1, 1),
        'backbone.mask_gamma': torch.zeros(1, 5, 1, 1),
        decoder: torch.zeros(12, 5, 1, 1),
    }
    ours = {key: tuple(value.shape) for key, value in to_a2mim(published).items()}
    assert ours == {
        'backbone.model.layer1.0.conv1.weight': (1,),
        'backbone.mask_token.token': (5,),
        'backbone.mask_token.gamma': (5,),
        'neck.projection.weight': (12, 5, 1, 1),
    }


def test_the_published_decoder_block_becomes_ours():
    block = ('neck.decoder.conv.0.conv.weight', 'neck.decoder.conv.0.ln.bias')
    published = state('backbone.layer1.0.conv1.weight', *block)
    assert set(to_a2mim(published)) >= {'neck.block.conv.weight', 'neck.block.norm.bias'}


@pytest.mark.parametrize(
    'trunk, head, classifier',
    [
        (['layer1.0.conv1.weight'], 'head.fc.weight', 'fc.weight'),
        (CONVNEXT, 'head.fc.weight', 'head.fc.weight'),
        ([TABLE], 'head.fc.weight', 'head.weight'),
        (['layers.0.ln1.weight', QKV], 'head.layers.head.weight', 'head.weight'),
    ],
    ids=['resnet', 'convnext', 'beit', 'vision_transformer'],
)
def test_a_classifier_goes_where_timm_keeps_it(trunk, head, classifier):
    published = state(*(f'backbone.{key}' for key in trunk), head)
    assert f'backbone.model.{classifier}' in to_a2mim(published)
