"""Released files of every kind are converted to our format with unchanged values.

That features and losses are the published ones is shown where the pinned models are, which take
the same way: ``test_published_parity`` and ``test_published_models`` below ``models``.
"""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.weights.safe_load import load_file
from toy_run import load_tool, toy_config, write_images

tool = load_tool('model_converters/openmixup_to_a2mim')
VIT = dict(img_size=64, embed_dim=32, depth=2, num_heads=2)


def convert(content: dict, folder: Path, capsys, suffix: str = '.pth') -> tuple[dict, str]:
    """The file that the tool writes, and its output."""
    source, target = folder / 'in.pth', folder / f'out{suffix}'
    torch.save(content, source)
    tool.main([str(source), str(target)])
    return load_file(target), capsys.readouterr().out


def start(path: Path, **options: object) -> nn.Module:
    """The model that ``--pretrained`` loads from a file."""
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    backbone = TimmBackbone(**options, init_cfg=init_cfg)
    backbone.init_weights()
    return backbone.model.eval()


def assert_same(one: nn.Module, other: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(one(image), other.eval()(image))


@pytest.mark.parametrize('file', ['in.pth', 'out.safetensors'], ids=['direct', 'imported'])
def test_torchvisions_resnet50_is_a_classifier_of_ours(tmp_path, capsys, file):
    source = torchvision.models.resnet50(num_classes=5)
    _, text = convert(source.state_dict(), tmp_path, capsys, '.safetensors')
    assert 'found a ResNet of 3+4+6+3 blocks, in the names of timm' in text
    assert 'kept        2 tensors  classifier' in text
    assert_same(start(tmp_path / file, model_name='resnet50', num_classes=5), source)


@pytest.mark.parametrize('file', ['in.pth', 'out.pth'], ids=['direct', 'imported'])
def test_a_release_of_mae_gives_its_backbone(tmp_path, capsys, file):
    source = timm.create_model('vit_base_patch16_224', num_classes=0, global_pool='', **VIT)
    decoder = {
        'mask_token': torch.zeros(1, 1, 16),
        'decoder_pos_embed': torch.zeros(1, 17, 16),
        'decoder_embed.weight': torch.zeros(16, 32),
        'decoder_blocks.0.norm1.weight': torch.zeros(16),
        'decoder_norm.bias': torch.zeros(16),
        'decoder_pred.bias': torch.zeros(768),
    }
    state, text = convert({'model': {**source.state_dict(), **decoder}}, tmp_path, capsys)
    assert 'found a ViT without relative positions of 2 blocks' in text
    assert 'kept        5 tensors  decoder' in text  # the mask token is the decoder's
    assert 'dropped     1 tensors  decoder_*' in text  # its positions, which are not trained
    assert all(key.startswith(('backbone.model.', 'neck.')) for key in state)
    options = dict(model_name='vit_base_patch16_224', global_pool='', **VIT)
    assert_same(start(tmp_path / file, **options), source)


@pytest.mark.parametrize('file', ['in.pth', 'out.pth'], ids=['direct', 'imported'])
def test_a_release_of_beit_gives_its_backbone_and_its_mask_token(tmp_path, capsys, file):
    options = dict(VIT, num_classes=0, global_pool='')
    shared = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
    source = timm.create_model('beit_base_patch16_224', **options, **shared)
    nn.init.normal_(source.rel_pos_bias.relative_position_bias_table)
    token = torch.randn(1, 1, 32)
    extra = {'mask_token': token, 'lm_head.bias': torch.zeros(8192)}
    state, text = convert({'model': {**source.state_dict(), **extra}}, tmp_path, capsys)
    assert 'found a ViT with relative positions of 2 blocks' in text
    assert 'dropped     1 tensors  lm_head.bias' in text
    assert torch.equal(state['backbone.mask_token.token'], token.flatten())
    options = dict(model_name='beit_base_patch16_224', global_pool='', **VIT)
    assert_same(start(tmp_path / file, **options, use_rel_pos_bias=True), source)


def published_convnext() -> dict[str, Tensor]:
    """A fine-tuned ConvNeXt of timm's smallest size under published names."""
    state = {}
    for key, value in timm.create_model('test_convnext', num_classes=3).state_dict().items():
        name = key.replace('stem.', 'downsample_layers.0.').replace('.blocks.', '.')
        if '.downsample.' in name:
            name = 'downsample_layers.' + name.removeprefix('stages.').replace('.downsample', '')
        name = name.replace('conv_dw', 'depthwise_conv').replace('mlp.fc', 'pointwise_conv')
        name = name.replace('head.norm', 'norm3')
        state[name if name.startswith('head.') else f'backbone.{name}'] = value
    return state


def test_ema_weights_are_omitted_and_the_module_prefix_is_removed(tmp_path, capsys):
    published = published_convnext()
    copies = {f'module.ema_{key.replace(".", "_")}': value + 1 for key, value in published.items()}
    wrapped = {f'module.{key}': value for key, value in published.items()}
    state, text = convert({'state_dict': wrapped | copies}, tmp_path, capsys)
    model = timm.create_model('test_convnext', num_classes=3)
    model.load_state_dict({key.removeprefix('backbone.model.'): state[key] for key in state})
    assert torch.equal(model.head.fc.bias, published['head.fc.bias'])
    assert f'dropped {len(published):5} tensors  ema_*' in text
    assert 'python tools/test.py FINETUNING_CONFIG' in text


def test_it_prints_how_to_continue_a_whole_pretraining(tmp_path, capsys):
    resnet = {f'backbone.{k}': v for k, v in timm.create_model('resnet10t').state_dict().items()}
    parts = {'backbone.mask_token': torch.ones(1, 256, 1, 1), 'neck.decoder.0.bias': torch.ones(3)}
    state, text = convert({'state_dict': resnet | parts}, tmp_path, capsys)
    assert state['backbone.mask_token.token'].shape == (256,)
    assert f'tools/train.py PRETRAINING_CONFIG --load-checkpoint {tmp_path}/out.pth' in text
    assert f'tools/train.py FINETUNING_CONFIG --pretrained {tmp_path}/out.pth' in text


@pytest.mark.parametrize(
    'content, words',
    [
        ({'features.0.0.weight': torch.ones(1)}, 'no family that is translated.*features.0.0'),
        ({'backbone.model.conv1.weight': torch.ones(1)}, 'in the layout of our models already'),
        ({'meta': 1}, r"no weights found; the file has the entries \['meta'\]"),
    ],
)
def test_what_cannot_be_imported_is_explained_and_nothing_written(tmp_path, content, words):
    torch.save(content, tmp_path / 'in.pth')
    with pytest.raises(ValueError, match=rf'in.pth is not imported: .*{words}'):
        tool.main([str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth')])
    assert not (tmp_path / 'out.pth').exists()


def test_it_never_overwrites_unasked(tmp_path):
    (tmp_path / 'out.pth').write_text('precious')
    with pytest.raises(FileExistsError, match='--force'):
        tool.main([str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth')])
    assert (tmp_path / 'out.pth').read_text() == 'precious'


@pytest.mark.integration
@pytest.mark.parametrize('file', ['in.pth', 'out.pth'], ids=['direct', 'imported'])
def test_training_and_testing_start_from_a_released_classifier(tmp_path, capsys, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    write_images(Path('train'), 4)
    write_images(Path('val'), 2)
    config = f'{tmp_path.name}.py'
    # With a rate of zero the weights stay what they were at the start.
    toy_config(Path(), train_cfg__max_epochs=1, optim_wrapper__optimizer__lr=0.0).dump(config)
    published = published_convnext()
    state, _ = convert({'state_dict': published, 'meta': {}}, tmp_path, capsys)
    load_tool('train').main([config, '--work-dir', 'run', '--load-checkpoint', file])
    trained = load_file('run/latest.pth')['state_dict']
    assert trained.keys() == state.keys()
    assert all(torch.equal(trained[key], state[key]) for key in state)
    metrics = [load_tool('test').main([config, path]) for path in (file, 'run/latest.pth')]
    assert metrics[0] == metrics[1]
