import math

import numpy as np
import pytest
import torch
from PIL import Image

import a2mim
from small_models import build, classifier, pretraining, save_checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def load(config, tmp_path):
    save_checkpoint(config, tmp_path / 'a.pth')
    return a2mim.load_model(tmp_path / 'a.pth')


def test_it_shows_what_the_model_predicts_behind_the_mask(tmp_path):
    model = load(pretraining(), tmp_path)
    with torch.no_grad():  # a decoder that says 30 everywhere
        model.neck.projection.weight.zero_()
        model.neck.projection.bias.fill_((30 - 120) / 60)
    pictures = a2mim.reconstruct(model, IMAGE)
    assert (pictures['image'] == IMAGE).all()
    assert (pictures['reconstruction'] == 30).all()
    hidden = pictures['mask'] == 255
    assert (pictures['visible'][~hidden] == IMAGE[~hidden]).all()
    mean = IMAGE.mean(axis=(0, 1))
    assert np.abs(pictures['visible'][hidden] - mean).max() <= 0.51


def test_the_network_sees_the_mask(tmp_path):
    model = load(pretraining(), tmp_path)
    first, second = (a2mim.reconstruct(model, IMAGE, seed=seed) for seed in (0, 1))
    assert (first['mask'] != second['mask']).any()
    assert (first['reconstruction'] != second['reconstruction']).any()
    again = a2mim.reconstruct(model, IMAGE, seed=1)
    assert all((again[name] == second[name]).all() for name in again)


@pytest.mark.parametrize(
    'options, block, share',
    [({}, 16, 0.5), (dict(ratio=0.7, block_size=32), 32, 0.7), (dict(ratio=0.0), 16, 0.0)],
)
def test_blocks_are_those_of_pretraining_unless_others_are_asked_for(
    tmp_path, options, block, share
):
    mask = a2mim.reconstruct(load(pretraining(), tmp_path), IMAGE, **options)['mask']
    blocks = mask.reshape(64 // block, block, 64 // block, block)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert (blocks[:, 0, :, 0] == 255).sum() == math.ceil(share * (64 // block) ** 2)


@pytest.mark.parametrize('channels', [1, 3, 5])
def test_pictures_have_the_channels_of_the_model(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    pictures = a2mim.reconstruct(load(pretraining(channels), tmp_path), image)
    shape = (64, 64) if channels == 1 else (64, 64, channels)
    for name in ('image', 'visible', 'reconstruction'):
        assert pictures[name].dtype == np.uint8
        assert pictures[name].shape == shape
        if channels != 5:
            Image.fromarray(pictures[name])
    assert Image.fromarray(pictures['mask']).mode == 'L'


def test_simmim_shows_all_and_hides_features(tmp_path):
    model = load(pretraining(method='SimMIM'), tmp_path)
    first, second = (a2mim.reconstruct(model, IMAGE, seed=seed) for seed in (0, 1))
    assert (first['visible'] == IMAGE).all()
    assert (first['reconstruction'] != second['reconstruction']).any()


def test_a_model_without_a_decoder_reconstructs_nothing(tmp_path):
    with pytest.raises(TypeError, match='ImageClassifier has no decoder and reconstructs nothing'):
        a2mim.reconstruct(load(classifier(), tmp_path), IMAGE)
    torch.save(build(pretraining()).backbone.model.state_dict(), tmp_path / 'trunk.pth')
    pretraining().dump(tmp_path / 'recipe.py')
    trunk = a2mim.load_model(tmp_path / 'trunk.pth', config=tmp_path / 'recipe.py')
    with pytest.raises(TypeError, match='TimmBackbone has no decoder'):
        a2mim.reconstruct(trunk, IMAGE)


def test_blocks_and_batches_that_do_not_fit_are_named(tmp_path):
    model = load(pretraining(), tmp_path)
    with pytest.raises(ValueError, match=r'block_size=30 does not divide image_size=\(64, 64\)'):
        a2mim.reconstruct(model, IMAGE, block_size=30)
    with pytest.raises(ValueError, match=r'ratio=1.5 must lie in \[0, 1\]'):
        a2mim.reconstruct(model, IMAGE, ratio=1.5)
    with pytest.raises(ValueError, match='takes one image, not 2'):
        a2mim.reconstruct(model, torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
