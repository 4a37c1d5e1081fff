"""A network by name or by file, with its weights or with random ones."""

import pytest
import timm
import torch
from PIL import Image

import a2mim
from a2mim.analysis import read_network
from a2mim.analysis.networks import source_name
from small_models import build, classifier, pretraining, save_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / 'run').mkdir()
    save_checkpoint(pretraining(), tmp_path / 'run/latest.pth')
    return tmp_path / 'run/latest.pth'


def test_a_checkpoint_is_the_model_that_was_saved(checkpoint):
    network = read_network(str(checkpoint))
    stored = torch.load(checkpoint, weights_only=True)['state_dict']
    for key, tensor in network.model.state_dict().items():
        assert torch.equal(tensor, stored[f'backbone.model.{key}'])
    assert network.whole.backbone.model is network.model
    assert network.num_classes == 0
    assert not network.model.training


def test_random_weights_have_the_shapes_of_the_checkpoint_and_come_back_with_the_seed(checkpoint):
    trained = read_network(str(checkpoint))
    first, again, other = (
        read_network(f'random:{checkpoint}', seed=seed).model.state_dict() for seed in (1, 1, 2)
    )
    assert first.keys() == trained.model.state_dict().keys()
    weights = [key for key, tensor in first.items() if tensor.ndim > 1]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in weights)
    assert not any(torch.equal(first[key], trained.model.state_dict()[key]) for key in weights)


def test_a_classifier_keeps_its_classes(tmp_path):
    save_checkpoint(classifier(), tmp_path / 'a.pth')
    network = read_network(str(tmp_path / 'a.pth'))
    assert network.num_classes == build(classifier()).backbone.model.num_classes > 0


def test_a_timm_model_is_shown_images_as_timm_prepares_them():
    network = read_network('random:test_vit')
    data = timm.data.resolve_model_data_config(network.model)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    own = network.normalize(pixels)
    for channel, (mean, std) in enumerate(zip(data['mean'], data['std'], strict=True)):
        expected = (pixels[:, channel] / 255 - mean) / std
        torch.testing.assert_close(own[:, channel], expected, atol=1e-5, rtol=1e-5)
    assert network.image_size == data['input_size'][1:]
    assert network.whole is None


@pytest.mark.parametrize(
    'text, label',
    [
        ('{}', 'run'),
        ('random:{}', 'random run'),
        ('mine={}', 'mine'),
        ('mine=random:{}', 'mine'),
    ],
)
def test_the_label_is_what_was_given_or_the_name_of_the_run(checkpoint, text, label):
    assert read_network(text.format(checkpoint)).label == label


@pytest.mark.parametrize(
    ('source', 'name'),
    [('test_vit:a/b:c.pth', 'b:c'), ('random:test_vit:c.pth', 'random c'), ('a/b:c.pth', 'b:c')],
)
def test_only_the_name_of_a_timm_model_comes_before_a_file(source, name):
    assert source_name(source) == name


@pytest.mark.parametrize('num_classes', [0, 7])
def test_a_timm_model_takes_the_weights_of_a_file_that_does_not_say_which_it_is(
    tmp_path, num_classes
):
    saved = timm.create_model('test_vit', num_classes=num_classes)
    torch.save(saved.state_dict(), tmp_path / 'trunk.pth')
    network = read_network(f'test_vit:{tmp_path}/trunk.pth')
    assert (network.label, network.num_classes) == ('trunk', num_classes)
    state = network.model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in saved.state_dict().items())
    twin = read_network(f'random:test_vit:{tmp_path}/trunk.pth', seed=1)
    assert (twin.label, twin.num_classes) == ('random trunk', num_classes)
    assert not torch.equal(twin.model.patch_embed.proj.weight, saved.patch_embed.proj.weight)


def test_a_trunk_that_does_not_say_which_it_is_is_told_how_to_say_it(tmp_path):
    torch.save(timm.create_model('test_resnet').state_dict(), tmp_path / 'trunk.pth')
    with pytest.raises(ValueError, match=r'does not say which.*such as resnet50:.*trunk\.pth'):
        read_network(str(tmp_path / 'trunk.pth'))
    with pytest.raises(ValueError, match=r'trunk\.pth: the checkpoint does not fit VisionTransf'):
        read_network(f'test_vit:{tmp_path}/trunk.pth')


def test_convolutions_have_their_channels_last_and_other_weights_what_they_had():
    model = read_network('random:lambda_resnet26t').model  # it has weights of five axes
    convolutions = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in convolutions)
    assert any(parameter.dim() == 5 for parameter in model.parameters())


def test_a_released_model_has_a_random_twin_without_its_file():
    name = a2mim.list_models('a2mim_resnet50*')[0]
    network = read_network(f'random:{name}')
    assert network.label == f'random {name}'
    assert type(network.model).__name__ == 'ResNet'


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'nonet9: neither a file nor a timm model'):
        read_network('nonet9')
    with pytest.raises(ValueError, match=r'similar names: test_resnet'):
        read_network('random:test_resne')
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        read_network(str(tmp_path / 'gone.pth'))
    (tmp_path / 'a.py').write_text('')
    with pytest.raises(ValueError, match=r'a config has no weights; write random:'):
        read_network(str(tmp_path / 'a.py'))
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png'):
        read_network(str(tmp_path / 'a.png'))
