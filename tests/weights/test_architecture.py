"""A state tells its family and its depth, and why it is not that of a model."""

import pytest
import timm
import torch

from a2mim.weights.fit import classifier_prefixes, load_weights
from a2mim.weights.names import architecture, classifier_of, depth, difference

MODELS = {
    'resnet50': ('ResNet', '3+4+6+3'),
    'convnext_small': ('ConvNeXt', '3+3+27+3'),
    'swin_tiny_patch4_window7_224': ('Swin', '2+2+6+2'),
    'vit_base_patch16_224': ('ViT without relative positions', '12'),
    'beit_base_patch16_224': ('ViT with relative positions', '12'),
}


def state_of(name: str, **options: object) -> dict[str, torch.Tensor]:
    with torch.device('meta'):
        return timm.create_model(name, **options).state_dict()


@pytest.mark.parametrize('name, family, blocks', [(k, *v) for k, v in MODELS.items()])
def test_family_depth_and_classifier_are_told(name, family, blocks):
    with torch.device('meta'):
        model = timm.create_model(name)
    state = model.state_dict()
    assert (architecture(state), depth(state)) == (family, blocks)
    assert classifier_prefixes(model) == (f'{classifier_of(state)}.',)


def test_a_model_does_not_differ_from_itself():
    state = state_of('vit_base_patch16_224')
    assert difference(state, state) is None


def test_twice_the_depth_is_named():
    small, large = (state_of('vit_base_patch16_224', depth=depth) for depth in (12, 24))
    assert difference(large, small) == 'the file has 24 blocks, the model 12'


def test_one_block_more_is_refused_though_nine_in_ten_tensors_match():
    model = timm.create_model('vit_base_patch16_224', embed_dim=24, depth=14, num_heads=2)
    other = timm.create_model('vit_base_patch16_224', embed_dim=24, depth=13, num_heads=2)
    with pytest.raises(ValueError, match=r'the file has 13 blocks, the model 14; .*9\d% match'):
        load_weights(model, other.state_dict())


def test_another_width_is_named():
    words = difference(state_of('convnext_base'), state_of('convnext_small'))
    assert words == 'the file is 128 wide, the model 96'


def test_names_that_nobody_knows_are_shown():
    foreign = {'features.0.weight': torch.zeros(1)}
    words = difference(foreign, state_of('resnet50'))
    assert 'of no family that is translated (its keys: features.0.weight' in words


def test_a_family_that_timm_alone_knows_is_left_to_the_comparison():
    with torch.device('meta'):
        state = timm.create_model('mixer_s16_224').state_dict()
    assert difference(state, state) is None
