"""The model of a checkpoint is rebuilt whole, with its classifier where it has one."""

import json
import re

import numpy as np
import pytest
import timm
import torch
from mmengine import Config
from PIL import Image

from a2mim.weights.export import TARGETS, export
from a2mim.weights.export.hub import model_card
from a2mim.weights.export.openmmlab import find_equivalent
from a2mim.weights.export.target import read_photograph, read_source


def run_checkpoint(path, model, kind='A2MIM', prepared=None, size=64, **backbone) -> None:
    """What a run of ours writes."""
    state = {f'backbone.model.{key}': value for key, value in model.state_dict().items()}
    parts = dict(backbone=backbone, **({'data_preprocessor': prepared} if prepared else {}))
    dataset = dict(mask=dict(image_size=size, block_size=8, ratio=0.6))
    config = dict(model=dict(type=kind, **parts), train_dataloader=dict(dataset=dataset))
    text = Config(config).pretty_text
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


@pytest.mark.parametrize(
    'kind, name, options, size, mean, std, words',
    [
        ('MAE', 'test_vit', dict(img_size=64), 64, [20.0] * 3, [5.0, 6.0, 7.0], 'He et al., MAE'),
        ('SparK', 'resnet10t', {}, (32, 48), [99.5] * 3, [51.0] * 3, 'Tian et al., SparK'),
        ('SimMIM', 'resnet10t', dict(in_chans=1), 96, [12.75], [25.5], 'Xie et al., SimMIM'),
        ('FeatureMIM', 'resnet10t', {}, 32, [0.0] * 3, [255.0] * 3, 'data2vec'),
    ],
)  # fmt: skip
def test_an_export_says_what_images_its_network_wants(
    tmp_path, kind, name, options, size, mean, std, words
):
    model = timm.create_model(name, num_classes=0, global_pool='', **options)
    prepared = dict(type='ImagePreprocessor', mean=mean, std=std)
    run_checkpoint(tmp_path / 'a.pth', model, kind, prepared, size, model_name=name, **options)
    source = read_source(tmp_path / 'a.pth', None, {})
    height, width = (size, size) if isinstance(size, int) else size
    assert source.input_shape == (len(mean), height, width)
    assert source.normalization() == (mean, std)
    assert source.images().startswith(f'{len(mean)}×{height}×{width}, pixels from 0 to 255, minus')
    TARGETS['huggingface'].write(source, tmp_path / 'out')
    theirs = timm.create_model(f'local-dir:{tmp_path / "out"}', pretrained=True)
    # What timm's own weights were, these are not.
    assert not {'tag', 'license', 'paper_ids', 'test_input_size'} & theirs.pretrained_cfg.keys()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mean)), np.uint8)
    picture = Image.fromarray(pixels.squeeze())
    expected = (torch.tensor(pixels).permute(2, 0, 1) - torch.tensor(mean)[:, None, None]) / (
        torch.tensor(std)[:, None, None]
    )
    torch.testing.assert_close(transform(picture), expected, atol=1e-4, rtol=1e-4)
    assert words in model_card(source, 'me/it') and f'{height}×{width}' in model_card(
        source, 'me/it'
    )


def test_the_names_of_classes_go_along_to_hugging_face(tmp_path):
    model = timm.create_model('test_vit', num_classes=2)
    run_checkpoint(tmp_path / 'a.pth', model, 'ImageClassifier', model_name='test_vit')
    content = torch.load(tmp_path / 'a.pth', weights_only=True)
    content['meta']['dataset_meta'] = dict(classes=['cat', 'dog'])
    torch.save(content, tmp_path / 'a.pth')
    source = read_source(tmp_path / 'a.pth', None, {})
    TARGETS['huggingface'].write(source, tmp_path / 'out')
    assert json.loads((tmp_path / 'out/config.json').read_text())['label_names'] == ['cat', 'dog']
    assert 'Method' not in model_card(source, 'me/it')


def test_an_option_that_no_weight_shows_is_refused_where_it_is_not_known(tmp_path):
    options = dict(output_stride=8, zero_init_last=False, act_layer='gelu', drop_path_rate=0.1)
    model = timm.create_model('resnet18', num_classes=0, global_pool='', **options)
    run_checkpoint(tmp_path / 'a.pth', model, model_name='resnet18', **options)
    source, image = read_source(tmp_path / 'a.pth', None, {}), torch.rand(1, 3, 64, 64)
    for target in ('torchvision', 'mmdet', 'mmseg', 'mmpretrain'):
        with pytest.raises(
            ValueError, match=re.escape(f"{target} has no act_layer='gelu', output_stride=8")
        ):
            export(source, target, tmp_path / 'out.pth', image)
    plain = read_source(tmp_path / 'a.pth', None, dict(output_stride=None, act_layer=None))
    export(plain, 'torchvision', tmp_path / 'out.pth', image)
    assert not {'output_stride', 'act_layer'} & plain.options.keys()
    heads = read_source_of_vit(tmp_path / 'b.pth')
    assert heads.silent_options(['img_size', 'num_heads']) == []
    assert heads.silent_options([]) == ['num_heads=4']


def read_source_of_vit(path):
    options = dict(num_heads=4, depth=1, embed_dim=48, img_size=32)
    model = timm.create_model('vit_tiny_patch16_224', num_classes=0, global_pool='', **options)
    run_checkpoint(path, model, model_name='vit_tiny_patch16_224', **options)
    return read_source(path, None, {})
