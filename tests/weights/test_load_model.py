"""Every kind of name and file becomes the model that it was, and what is none is named."""

import hashlib
from dataclasses import replace

import pytest
import timm
import torch
from mmengine import Config
from safetensors.torch import save_file as save_safetensors

import a2mim
from a2mim.engine.runner import ToolRunner
from a2mim.models.a2mim import A2MIM, SimMIM
from a2mim.models.classifier import ImageClassifier
from a2mim.models.timm_backbone import TimmBackbone
from a2mim.weights import load_model
from a2mim.weights import released as table
from a2mim.weights.load_model import InputSpec
from a2mim.weights.released import config_path, entries
from file_server import serve
from small_models import (
    build,
    classifier,
    openmixup_names,
    pretraining,
    save_checkpoint,
    save_published,
)
from toy_run import toy_config, write_images

RESNET18 = 'quickstart/a2mim_resnet18_1xb64-cos-15e_photos-64px'


def assert_same(model, expected):
    own, other = model.state_dict(), expected.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[key], other[key]) for key in own)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('A2MIM_HOME', str(tmp_path / 'home'))
    return tmp_path / 'home'


@pytest.fixture
def released(monkeypatch, tmp_path, home):
    """A ResNet-18 that is released on this machine: its entry, its server and itself."""
    model = build(Config.fromfile(config_path(RESNET18)))
    torch.save(dict(state_dict=openmixup_names(model), author='openmixup'), tmp_path / 'r18.pth')
    content = (tmp_path / 'r18.pth').read_bytes()
    with serve(content) as server:
        entry = replace(
            entries()[0],
            name='small',
            file='small_full.pth',
            url=server.url,
            config=RESNET18,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for module in (table, load_model):
            monkeypatch.setattr(module, 'entries', lambda: (entry,))
        yield entry, server, model


def test_a_released_name_is_fetched_once_and_loaded(released, home):
    _, server, expected = released
    for _ in range(2):
        model = a2mim.load_model('small')
        assert_same(model, expected)
    assert type(model) is A2MIM
    assert not model.training
    assert (home / 'small_full.pth').is_file()
    assert len(server.requests) == 1


def test_a_released_file_that_changed_later_is_refused(released, home):
    a2mim.load_model('small')
    with (home / 'small_full.pth').open('ab') as file:
        file.write(b'more')
    with pytest.raises(ValueError, match=r'small_full.pth has SHA-256 \w+, expected.*Get it by'):
        a2mim.load_model('small')


def test_a_released_file_is_known_by_its_name(released, tmp_path):
    path = tmp_path / 'small_full.pth'
    (tmp_path / 'r18.pth').rename(path)
    assert_same(a2mim.load_model(path), released[2])


def test_the_folder_of_a_run_is_its_last_checkpoint(tmp_path, monkeypatch):
    for name in ('run', 'run_1.5'):
        (tmp_path / name).mkdir()
        trained = save_checkpoint(pretraining(), tmp_path / name / 'latest.pth')
        assert_same(a2mim.load_model(tmp_path / name), trained)
    (tmp_path / 'other').mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'other is a folder and has no latest\.pth'):
        a2mim.load_model('other')


def test_a_renamed_file_of_the_published_system_needs_its_recipe(released, tmp_path):
    with pytest.raises(ValueError, match=r'r18.pth holds a whole model.*pass config='):
        a2mim.load_model(tmp_path / 'r18.pth')
    assert_same(a2mim.load_model(tmp_path / 'r18.pth', config=RESNET18), released[2])


def test_the_default_folder_is_that_of_torch_hub(monkeypatch, tmp_path, released):
    monkeypatch.delenv('A2MIM_HOME')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    a2mim.load_model('small')
    assert (tmp_path / 'hub' / 'checkpoints' / 'a2mim' / 'small_full.pth').is_file()


def test_a_name_without_weights_is_its_recipe():
    model = a2mim.load_model('a2mim_resnet50_300e', pretrained=False)
    assert type(model) is A2MIM
    assert model.input_spec == InputSpec((224, 224), 32, 0.6)


@pytest.mark.parametrize('method, kind', [('A2MIM', A2MIM), ('SimMIM', SimMIM)])
@pytest.mark.parametrize('save', [save_checkpoint, save_published])
def test_a_file_of_ours_says_what_it_is(tmp_path, save, method, kind):
    path = tmp_path / ('a.pth' if save is save_checkpoint else 'a.safetensors')
    expected = save(pretraining(method=method), path)
    model = a2mim.load_model(path)
    assert type(model) is kind
    assert_same(model, expected)
    assert model.input_spec == InputSpec((64, 64), 16, 0.5)


@pytest.mark.integration
def test_what_a_training_run_wrote_is_loaded(tmp_path):
    for split in ('train', 'val'):
        write_images(tmp_path / split, per_class=4)
    config = toy_config(tmp_path, work_dir=str(tmp_path / 'run'), train_cfg__max_epochs=1)
    runner = ToolRunner.from_cfg(config)
    runner.train()
    model = a2mim.load_model(str(tmp_path / 'run' / 'epoch_1.pth'))
    assert type(model) is ImageClassifier
    assert_same(model, runner.model)


def test_a_trunk_alone_is_a_backbone_of_its_recipe(tmp_path):
    trunk = build(pretraining()).backbone.model
    save_safetensors(
        {key: tensor.contiguous() for key, tensor in trunk.state_dict().items()},
        tmp_path / 'trunk.safetensors',
    )
    pretraining().dump(tmp_path / 'recipe.py')
    model = a2mim.load_model(tmp_path / 'trunk.safetensors', config=tmp_path / 'recipe.py')
    assert type(model) is TimmBackbone
    assert_same(model.model, trunk)
    assert model.mask_token is None
    assert model.data_preprocessor.mean.flatten().tolist() == [120.0] * 3
    assert model.input_spec.image_size == (64, 64)


def test_a_trunk_of_the_paper_is_known_by_its_shapes(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(load_model, 'print_log', lambda text, logger: said.append(text))
    expected = TimmBackbone('resnet50')
    torch.save(expected.model.state_dict(), tmp_path / 'r50.pth')
    model = a2mim.load_model(tmp_path / 'r50.pth')
    assert_same(model.model, expected.model)
    assert 'mean and standard deviation of ImageNet are taken' in said[0]


def test_an_unknown_trunk_needs_its_recipe(tmp_path):
    torch.save(build(pretraining()).backbone.model.state_dict(), tmp_path / 'trunk.pth')
    with pytest.raises(ValueError, match=r'trunk.pth holds a backbone and does not say which'):
        a2mim.load_model(tmp_path / 'trunk.pth')


def test_a_config_is_a_model_without_weights(tmp_path):
    classifier().dump(tmp_path / 'recipe.py')
    model = a2mim.load_model(tmp_path / 'recipe.py', pretrained=False, num_classes=7)
    assert model.backbone.model.num_classes == model.data_preprocessor.mixup.num_classes == 7
    assert model.input_spec.image_size == (64, 64)
    with pytest.raises(ValueError, match=r'is a config and has no weights'):
        a2mim.load_model(tmp_path / 'recipe.py')


@pytest.mark.parametrize(
    'recipe, size',
    [
        ('cifar10/finetune_resnet18_1xb256-cos-30e_cifar10', 32),
        ('quickstart/finetune_vit-2x64_1xb50-cos-400e_digits-16px', 16),
        ('openmixup/finetune/imagenet/r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100', 224),
    ],
)
def test_the_recipe_tells_the_size_of_the_images(recipe, size):
    model = a2mim.load_model(config_path(recipe), pretrained=False)
    assert model.input_spec.image_size == (size, size)


def test_a_recipe_is_loaded_by_its_name_without_weights():
    by_name = a2mim.load_model(RESNET18.rpartition('/')[2], pretrained=False)
    by_path = a2mim.load_model(config_path(RESNET18), pretrained=False)
    assert by_name.input_spec == by_path.input_spec == InputSpec((64, 64), 16, 0.6)
    assert type(a2mim.load_model(RESNET18, pretrained=False)) is A2MIM
    with pytest.raises(ValueError, match=r'is a config and has no weights: pass pretrained=False'):
        a2mim.load_model(RESNET18)


def test_a_timm_model_is_a_backbone_with_its_own_preparation(monkeypatch):
    model = a2mim.load_model('test_vit', pretrained=False)
    config = timm.get_pretrained_cfg('test_vit')
    assert type(model) is TimmBackbone and not model.training
    mean = model.data_preprocessor.mean.flatten()
    torch.testing.assert_close(mean, 255 * torch.tensor(config.mean))
    assert model.input_spec.image_size == config.input_size[1:]
    image = torch.zeros(3, *config.input_size[1:], dtype=torch.uint8)
    assert a2mim.features(model, image, pooled=True).shape == (1, model.out_channels)
    with pytest.raises(ValueError, match='num_classes=3: test_vit is taken without'):
        a2mim.load_model('test_vit', pretrained=False, num_classes=3)

    def offline(*_, **__):
        raise OSError('no network\nat all')

    monkeypatch.setattr('timm.models._builder.load_pretrained', offline)
    with pytest.raises(ConnectionError, match=r'test_vit: timm does not get its weights \(no net'):
        a2mim.load_model('test_vit')


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        ('a2mim_resnet50_301e', 'a2mim_resnet50_300e'),
        ('a2mim_resnet18_1xb64-cos-15e_photo-64px', 'a2mim_resnet18_1xb64-cos-15e_photos-64px'),
        ('convnxt_tiny', 'convnext_tiny'),
    ],
)
def test_a_misspelt_name_is_told_near_ones(name, near):
    with pytest.raises(KeyError, match=f'close: .*{near}'):
        a2mim.load_model(name, pretrained=False)


def test_an_unknown_name_is_no_file_either(home):
    with pytest.raises(KeyError, match=r"no file and no released model is called 'a2mim_resnet5'"):
        a2mim.load_model('a2mim_resnet5')
    with pytest.raises(FileNotFoundError, match=r'none.pth does not exist'):
        a2mim.load_model('none.pth')
    with pytest.raises(FileNotFoundError, match=r'config none.py does not exist'):
        a2mim.load_model('none.py', pretrained=False)


def test_a_folder_of_the_same_name_does_not_hide_a_released_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a2mim_resnet50_300e').mkdir()
    assert type(a2mim.load_model('a2mim_resnet50_300e', pretrained=False)) is A2MIM


def test_weights_whose_address_is_not_known_come_with_the_manual_steps(home, monkeypatch):
    entry = replace(entries()[0], name='lost', url=None, note='gone', config=RESNET18)
    monkeypatch.setattr(table, 'entries', lambda: (entry,))
    with pytest.raises(
        ValueError, match=r'lost are is not known \(gone\).*Get it by hand'
    ) as error:
        a2mim.load_model('lost')
    assert 'Get it by hand: (1) download it from its authors' in str(error.value)
    assert f'save it as {home / entry.file}' in str(error.value)


def test_a_file_of_another_family_is_refused(released, tmp_path):
    save_checkpoint(pretraining(), tmp_path / 'convnext.pth')
    with pytest.raises(ValueError, match=r'the file is a ConvNeXt, the model a ResNet'):
        a2mim.load_model(tmp_path / 'convnext.pth', config=RESNET18)
    torch.save({'backbone.body.0.weight': torch.ones(1)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other.pth: '):
        a2mim.load_model(tmp_path / 'other.pth', config=RESNET18)


def published_classifier(tmp_path):
    """A fine-tuned ResNet-18 in the names of the published system, and its recipe."""
    config = classifier()
    config.model.backbone.model_name = 'resnet18'
    config.dump(tmp_path / 'recipe.py')
    model = build(config)
    return model, openmixup_names(model), tmp_path / 'recipe.py'


def test_a_published_classifier_is_loaded_without_what_pretraining_left_in_it(tmp_path):
    expected, state, recipe = published_classifier(tmp_path)
    state['backbone.mask_token'] = torch.ones(1, 256, 1, 1)
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    assert_same(a2mim.load_model(tmp_path / 'a.pth', config=recipe), expected)


def test_a_published_classifier_with_anything_else_is_refused(tmp_path):
    _, state, recipe = published_classifier(tmp_path)
    state['backbone.layer5.0.conv1.weight'] = torch.ones(1)
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'the file has 2\+2\+2\+2\+1 blocks'):
        a2mim.load_model(tmp_path / 'a.pth', config=recipe)


def test_a_pretraining_file_is_no_classifier(tmp_path):
    save_checkpoint(pretraining(), tmp_path / 'a.pth')
    classifier().dump(tmp_path / 'classifier.py')
    with pytest.raises(ValueError, match=r'a.pth: the checkpoint does not fit ImageClassifier'):
        a2mim.load_model(tmp_path / 'a.pth', config=tmp_path / 'classifier.py')


def test_a_classifier_of_other_classes_is_refused_and_says_how_many_it_has(tmp_path):
    save_checkpoint(classifier(5), tmp_path / 'a.pth')
    with pytest.raises(
        ValueError, match=r'a.pth: .*5 classes, that of the model 7: .*num_classes=5'
    ):
        a2mim.load_model(tmp_path / 'a.pth', num_classes=7)
    assert a2mim.load_model(tmp_path / 'a.pth', num_classes=5).backbone.model.num_classes == 5


def test_a_model_without_classes_refuses_their_number(tmp_path):
    save_checkpoint(pretraining(), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'num_classes=7: A2MIM has no classes'):
        a2mim.load_model(tmp_path / 'a.pth', num_classes=7)
    torch.save(build(pretraining()).backbone.model.state_dict(), tmp_path / 'trunk.pth')
    with pytest.raises(ValueError, match=r'num_classes=7: .*holds a backbone without a classifier'):
        a2mim.load_model(tmp_path / 'trunk.pth', num_classes=7)


def test_a_file_without_its_weights_is_the_same_model_at_random(tmp_path):
    save_checkpoint(pretraining(), tmp_path / 'whole.pth')
    trunk = timm.create_model('resnet18', num_classes=0, global_pool='')
    torch.save(dict(trunk.state_dict()), tmp_path / 'trunk.pth')
    for name in ('whole.pth', 'trunk.pth'):
        options = {} if name == 'whole.pth' else dict(config=RESNET18)
        trained = a2mim.load_model(tmp_path / name, **options)
        random = a2mim.load_model(tmp_path / name, pretrained=False, **options)
        assert type(random) is type(trained)
        own, other = random.state_dict(), trained.state_dict()
        assert own.keys() == other.keys()
        assert not any(torch.equal(own[key], other[key]) for key in own if own[key].ndim > 1)


@pytest.mark.parametrize(
    'name, options, words',
    [
        ('a2mim_resnet50_300e', dict(config=RESNET18), r'resnet50_300e is no file of weights'),
        ('a.py', dict(config=RESNET18), r'a.py is no file of weights'),
        ('a.pth', dict(config='a/b'), r'no config a/b.py'),
    ],
)
def test_options_that_contradict_each_other_are_refused(name, options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        a2mim.load_model(name, **options)


@pytest.mark.parametrize(
    'recipe',
    [
        'a2mim_resnet10t_1xb32-cos-6e_photos-64px',
        'mae_vit-4x128_1xb64-cos-30e_photos-64px',
        'spark_resnet10t_1xb32-cos-6e_photos-64px',
        'data2vec_vit-4x128_1xb64-cos-30e_photos-64px',
    ],
)
def test_a_whole_model_can_be_saved_by_torch_and_is_the_same(recipe, tmp_path):
    model = a2mim.load_model(recipe, pretrained=False)
    torch.save(model, tmp_path / 'whole.pt')
    again = torch.load(tmp_path / 'whole.pt', weights_only=False)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    blocks = 2 if recipe.startswith('spark') else 8
    mask = torch.tensor([0, 1, 1, 0], dtype=torch.uint8).repeat(2, blocks * blocks // 4)
    data = dict(image=image, mask=mask.view(2, blocks, blocks))
    losses = [one(**one.data_preprocessor(data, True), mode='loss') for one in (model, again)]
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
