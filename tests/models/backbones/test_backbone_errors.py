"""What cannot work is refused before any training, with a sentence that helps."""

import pytest
import torch
from torch import nn

from a2mim.models.timm_backbone import TimmBackbone

VIT = dict(img_size=64, depth=2)


@pytest.mark.parametrize(
    'model_name, options, words',
    [
        ('resnet51', {}, r"no model 'resnet51'; close to it: .*resnet50"),
        (
            'resnet18',
            dict(mask_after='layr3'),
            r"no module 'layr3'; close to it: .*layer3.*stages",
        ),
        ('resnet18', dict(mask_after=7), r'mask_after=7 is not an index into the 5 stages'),
        ('resnet18', dict(mask_after='layer2.0.act1', mask_token=dict(mode='ad')), "mode='ad'"),
        ('resnet18', dict(mask_token={}), 'needs mask_after'),
        ('resnet18', dict(mask_after='layer3', num_classes=5), 'classifier'),
        ('resnet18', dict(global_pool='avg'), r'returns features of shape \(1, 512\)'),
        ('mixer_s32_224', dict(mask_after='blocks.0.drop_path'), 'runs 2 times in one pass'),
        ('inception_v3', dict(mask_after=-2), 'not a whole number of pixels'),
        ('hrnet_w18_small', dict(mask_after='stage3'), 'other than one tensor'),
        ('coat_tiny', {}, 'timm builds no coat_tiny.*pooling'),
        ('vgg11', {}, 'pools an image of 224×224 pixels into one position'),
        ('vgg11', dict(grad_checkpointing=True), 'no gradient checkpointing for VGG'),
    ],
)
def test_construction_refuses(model_name, options, words):
    with pytest.raises(ValueError, match=words):
        TimmBackbone(model_name, **options)


def test_a_misspelt_option_is_named():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'prefix'"):
        TimmBackbone(
            'resnet18', init_cfg=dict(type='Pretrained', checkpoint='a.pth', prefix='backbone.')
        ).init_weights()
    with pytest.raises(TypeError, match=r"'mask_aftr'.*may be misspelt"):
        TimmBackbone('resnet18', mask_aftr='layer3')


def test_a_mask_grid_that_does_not_fit_says_which_blocks_do():
    backbone = TimmBackbone('resnet18', mask_after='layer3')
    backbone.check_mask_grid((224, 224), (7, 7))
    words = (
        r"5×5 blocks does not fit mask_after='layer3', which has 14×14 features for an image "
        r'of 224×224 pixels; block sizes that fit: 16, 32, 112, 224'
    )
    with pytest.raises(ValueError, match=words):
        backbone.check_mask_grid((224, 224), (5, 5))
    with pytest.raises(ValueError, match=r'blocks does not fit.*fit: 16, 32, 64'):
        backbone(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 3))


@pytest.mark.parametrize('shape', [(2, 1, 2, 2), (1, 2, 2)])
def test_a_mask_of_another_batch_or_with_channels_is_refused(shape):
    backbone = TimmBackbone('resnet18', mask_after='layer3')
    with pytest.raises(ValueError, match=r'must be \(B, h, w\), B that of image \(2, 3, 64, 64\)'):
        backbone(torch.zeros(2, 3, 64, 64), torch.zeros(shape))


def test_an_image_that_the_trunk_does_not_take_is_refused_by_the_check():
    backbone = TimmBackbone('vit_tiny_patch16_224', mask_after='blocks.0', **VIT)
    with pytest.raises(ValueError, match='takes no image of 3 channels and 96×96 pixels'):
        backbone.check_mask_grid((96, 96), (3, 3))


def test_a_stride_that_depends_on_the_image_size_is_refused():
    backbone = TimmBackbone('resnet18', mask_after='layer3')
    with pytest.raises(ValueError, match=r'240×240 pixels come out with stride 30, others with 32'):
        backbone.check_mask_grid((240, 240), (5, 5))


def test_a_place_that_does_not_run_is_noticed():
    backbone = TimmBackbone('resnet18', mask_after='layer3')
    backbone.model.layer3 = nn.Conv2d(128, 256, 3, 2, 1)  # surgery after construction
    with pytest.raises(RuntimeError, match="'layer3' did not run: the features are not masked"):
        backbone(torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 2))
