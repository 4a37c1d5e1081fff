import copy

import numpy as np
import pytest
import timm
import torch

import a2mim
from small_models import classifier, pretraining, save_checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
NORMALISED = (torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() - 120) / 60


@pytest.fixture
def pretrained(tmp_path):
    save_checkpoint(pretraining(), tmp_path / 'a.pth')
    return a2mim.load_model(tmp_path / 'a.pth')


def test_features_are_those_of_timm(pretrained):
    trunk = timm.create_model('test_convnext', num_classes=0, global_pool='').eval()
    trunk.load_state_dict(pretrained.backbone.model.state_dict())
    with torch.no_grad():
        expected = trunk(NORMALISED)
    found = a2mim.features(pretrained, IMAGE)
    torch.testing.assert_close(found, expected)
    pooled = a2mim.features(pretrained, IMAGE, pooled=True)
    torch.testing.assert_close(pooled, expected.mean(dim=(2, 3)))
    assert not found.requires_grad


def test_a_trunk_alone_has_the_features_of_the_whole(pretrained, tmp_path):
    torch.save(pretrained.backbone.model.state_dict(), tmp_path / 'trunk.pth')
    pretraining().dump(tmp_path / 'recipe.py')
    trunk = a2mim.load_model(tmp_path / 'trunk.pth', config=tmp_path / 'recipe.py')
    assert torch.equal(a2mim.features(trunk, IMAGE), a2mim.features(pretrained, IMAGE))


def test_a_classifier_pools_as_its_head_does(tmp_path):
    save_checkpoint(classifier(), tmp_path / 'a.pth')
    model = a2mim.load_model(tmp_path / 'a.pth')
    timm_model = model.backbone.model
    with torch.no_grad():
        expected_map = timm_model.forward_features(NORMALISED)
        expected = timm_model.forward_head(expected_map, pre_logits=True)
        logits = timm_model(NORMALISED)
    torch.testing.assert_close(a2mim.features(model, IMAGE), expected_map)
    pooled = a2mim.features(model, IMAGE, pooled=True)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(timm_model.get_classifier()(pooled), logits)


def test_a_list_longer_than_a_pass_is_whole(pretrained, monkeypatch):
    monkeypatch.setattr('a2mim.inference.CHUNK', 2)
    images = [np.roll(IMAGE, i) for i in range(5)]
    found = a2mim.features(pretrained, images, pooled=True)
    expected = torch.cat([a2mim.features(pretrained, image, pooled=True) for image in images])
    torch.testing.assert_close(found, expected)


def test_several_images_are_one_batch(pretrained):
    images = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    images[1] = 255 - images[1]
    found = a2mim.features(pretrained, images)
    assert found.shape == (2, 64, 2, 2)
    torch.testing.assert_close(found[:1], a2mim.features(pretrained, IMAGE))


@pytest.mark.parametrize(
    'call', [a2mim.features, a2mim.reconstruct], ids=['features', 'reconstruct']
)
def test_a_model_in_training_is_evaluated_and_stays_as_it_was(tmp_path, call):
    config = pretraining()
    config.model.backbone.update(model_name='resnet10t', mask_after='layer3')
    save_checkpoint(config, tmp_path / 'a.pth')
    model = a2mim.load_model(tmp_path / 'a.pth')
    expected, before = call(model, IMAGE), copy.deepcopy(model.state_dict())
    model.train().neck.eval()
    found = call(model, IMAGE)
    if isinstance(expected, torch.Tensor):
        found, expected = {'map': found.numpy()}, {'map': expected.numpy()}
    np.testing.assert_equal(found, expected)
    assert model.training and model.backbone.training and not model.neck.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
