"""The model of a checkpoint is rebuilt whole, with its classifier where it has one."""

import numpy as np
import pytest
import timm
import torch
from mmengine import Config
from PIL import Image

from a2mim.weights.export.openmmlab import find_equivalent
from a2mim.weights.export.target import read_photograph, read_source


def run_checkpoint(path, model, **backbone) -> None:
    """What a run of ours writes."""
    state = {f'backbone.model.{key}': value for key, value in model.state_dict().items()}
    text = Config(dict(model=dict(type='A2MIM', backbone=backbone))).pretty_text
    content = dict(state_dict={**state, 'neck.projection.bias': torch.zeros(3)})
    torch.save({**content, 'meta': dict(cfg=text), 'optimizer': {}}, path)


@pytest.mark.parametrize('tokens', [{}, {'class_token': False}])
def test_a_pretraining_run_tells_its_model_and_gives_an_unpooled_trunk(tmp_path, tokens):
    options = dict(img_size=64, depth=2, embed_dim=48, num_heads=3, **tokens)
    model = timm.create_model('vit_tiny_patch16_224', num_classes=0, global_pool='', **options)
    run_checkpoint(tmp_path / 'a.pth', model, model_name='vit_tiny_patch16_224', **options)
    source = read_source(tmp_path / 'a.pth', None, {})
    assert (source.name, source.num_classes) == ('vit_tiny_patch16_224', 0)
    assert source.options == dict(num_classes=0, global_pool='', **options)
    assert source.input_shape == (3, 64, 64)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(source.model(image), model.eval()(image))
    assert source.final_map(image).shape == (1, 48, 4, 4)
    assert eval(source.call(), {'timm': timm}).embed_dim == 48  # what a person does


def test_a_fine_tuned_run_keeps_its_classifier(tmp_path):
    model = timm.create_model('resnet18', num_classes=5)
    run_checkpoint(tmp_path / 'a.pth', model, model_name='resnet18', num_classes=5)
    source = read_source(tmp_path / 'a.pth', None, {})
    assert source.num_classes == 5
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(source.model(image), model.eval()(image))
    assert 'fc.weight' not in source.backbone_state()


def test_the_trunk_of_a_fine_tuned_vit_keeps_the_norm_behind_its_mean(tmp_path):
    options = dict(img_size=64, depth=2, embed_dim=48, num_heads=3)
    model = timm.create_model('beit_base_patch16_224', num_classes=0, **options)
    assert 'fc_norm.weight' in model.state_dict()
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    source = read_source(tmp_path / 'a.pth', 'beit_base_patch16_224', options)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(source.model(image), model.eval()(image))


def test_the_photograph_is_normalised_and_of_the_models_size(source_of):
    image = read_photograph(source_of('small_vit'))
    assert image.shape == (1, 3, 64, 64)
    assert image.min() < 0 < image.max()
    assert 0.1 < image.std() < 2


def test_a_photograph_of_ones_own_is_read(source_of, tmp_path):
    Image.fromarray(np.full((90, 120, 3), 255, np.uint8)).save(tmp_path / 'white.png')
    image = read_photograph(source_of('resnet18'), tmp_path / 'white.png')
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(image, expected[None, :, None, None].expand_as(image))


def test_a_file_that_is_no_image_is_refused(source_of, tmp_path):
    (tmp_path / 'a.png').write_text('no image')
    with pytest.raises(ValueError, match=r'a.png is no image that Pillow reads'):
        read_photograph(source_of('resnet18'), tmp_path / 'a.png')
    with pytest.raises(FileNotFoundError):
        read_photograph(source_of('resnet18'), tmp_path / 'gone.png')


@pytest.mark.parametrize('key', ['paper_vit', 'convnext_tiny'])
def test_a_published_file_is_a_source_too(source_of, tmp_path, key):
    source = source_of(key)
    # MMPretrain kept the names of the published system.
    state = {f'backbone.{k}': v for k, v in find_equivalent('mmdet', source).state.items()}
    torch.save(dict(state_dict=state, author='openmixup'), tmp_path / 'a.pth')
    published = read_source(tmp_path / 'a.pth', None, {})
    assert published.name == source.name
    ours = source.model.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in published.model.state_dict().items())
