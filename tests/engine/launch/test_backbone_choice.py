"""A backbone of the command line gets the layer of its mask token and its image size."""

import pytest

from a2mim.engine.backbone_choice import fit_backbone
from a2mim.registry import MODELS
from small_models import classifier, pretraining


@pytest.mark.parametrize(
    'name, before, size, chosen',
    [
        ('convnext_atto', 'layer3', 64, 'stages.2'),
        ('resnet18', 'stages.2', 64, 'layer3'),
        ('regnety_002', 'layer3', (96, 64), 's3'),
        ('efficientnet_lite0', 'layer3', 64, 'blocks.4'),
        ('vit_tiny_patch16_224', 'layer3', 192, 'patch_embed'),
        ('test_vit', 'layer3', (64, 96), 'patch_embed'),
        ('resnet50', 'layer2', 64, 'layer2'),  # it has that layer
    ],
)
def test_a_layer_is_chosen_that_fits_the_mask(name, before, size, chosen):
    cfg = pretraining()
    cfg.train_dataloader.dataset.update(source=dict(type='ImageFolder', root='.'))
    cfg.train_dataloader.dataset.mask.image_size = size
    cfg.model.backbone.update(model_name=name, mask_after=before)
    notes = fit_backbone(cfg)
    backbone = cfg.model.backbone
    assert backbone.mask_after == chosen
    assert any(f'mask_after={chosen} chosen' in note for note in notes) == (before != chosen)
    built = MODELS.build({**backbone, 'type': 'a2mim.TimmBackbone'})
    height, width = (size, size) if isinstance(size, int) else size
    built.check_mask_grid((height, width), (height // 16, width // 16))
    assert fit_backbone(cfg) == []  # the written config runs as it is


@pytest.mark.parametrize(
    'name, size, given, img_size',
    [
        ('vit_tiny_patch16_224', 192, {}, 192),
        ('vit_tiny_patch16_224', 224, {}, None),
        ('beit_base_patch16_224', 96, {}, 96),
        ('vit_tiny_patch16_224', 192, dict(dynamic_img_size=True), None),
        ('vit_tiny_patch16_224', 192, dict(img_size=160), 160),
        ('resnet18', 192, {}, None),
    ],
)
def test_a_network_of_one_image_size_gets_that_of_the_images(name, size, given, img_size):
    cfg = classifier()
    dataset = cfg.val_dataloader.dataset
    dataset.update(source=dict(type='ImageFolder', root='.'))
    dataset.pipeline[-1].size = size
    cfg.model.backbone.update(model_name=name, **given)
    notes = fit_backbone(cfg)
    assert cfg.model.backbone.get('img_size') == img_size
    assert bool(notes) == (img_size is not None and not given)
