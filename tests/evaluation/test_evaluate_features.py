import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine import Config
from mmengine.registry import DefaultScope, init_default_scope
from PIL import Image

ROOT = Path(__file__).parents[2]
CONFIG = """
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[128.] * 3, std=[64.] * 3),
    backbone=dict(type='TimmBackbone', model_name='resnet10t', num_classes=2),
    loss=dict(type='CrossEntropyLoss'),
)
train_dataloader = dict(
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='{root}/train', with_labels=True),
        pipeline=[dict(type='RandomResizedCrop', size=64)],
    )
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='{root}/val', with_labels=True),
        pipeline=[dict(type='Resize', size=32)],
    ),
)
default_scope = 'a2mim'
"""


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis_tools/evaluate_features.py'
    spec = importlib.util.spec_from_file_location('evaluate_features', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    DefaultScope._instance_dict.popitem()


@pytest.fixture(scope='module')
def paths(tmp_path_factory) -> list[str]:
    """A config of red and blue images, and a checkpoint of a trunk."""
    root = tmp_path_factory.mktemp('features')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name, channel in (('red', 0), ('blue', 2)):
            (root / split / name).mkdir(parents=True)
            for index in range(12):
                pixels = rng.integers(100, size=(32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / split / name / f'{index}.png')
    (root / 'config.py').write_text(CONFIG.format(root=root))
    torch.save(timm.create_model('resnet10t', num_classes=0).state_dict(), root / 'trunk.pth')
    return [str(root / 'config.py'), str(root / 'trunk.pth')]


def test_it_prints_both_accuracies(tool, paths, capsys):
    tool.main(tool.parse_args(paths))
    text = capsys.readouterr().out
    assert 'features: 24 to fit, 24 to test, 512 wide' in text
    assert re.search(r'^20 nearest neighbours: [\d.]+ % top-1$', text, re.MULTILINE)
    linear = re.search(r'^linear probe: ([\d.]+) % top-1$', text, re.MULTILINE)
    assert float(linear[1]) == 100


@pytest.mark.parametrize('option, other', [('--knn', 'linear'), ('--linear', 'neighbours')])
def test_one_of_them_can_be_asked_for(tool, paths, capsys, option, other):
    tool.main(tool.parse_args([*paths, option]))
    assert other not in capsys.readouterr().out


def test_the_numbers_are_written_to_a_file(tool, paths, tmp_path):
    tool.main(tool.parse_args([*paths, '--out', str(tmp_path / 'out.json')]))
    found = json.loads((tmp_path / 'out.json').read_text())
    assert 0 <= found.pop('knn_top1') <= 100
    assert found == dict(
        config=paths[0],
        checkpoint=paths[1],
        fitted=24,
        tested=24,
        width=512,
        neighbours=20,
        linear_top1=100,
    )


def test_only_what_was_asked_for_is_written(tool, paths, tmp_path):
    tool.main(tool.parse_args([*paths, '--linear', '--out', str(tmp_path / 'out.json')]))
    assert 'knn_top1' not in json.loads((tmp_path / 'out.json').read_text())


def test_images_come_from_the_data_root(tool, paths, tmp_path, capsys):
    config = tmp_path / 'elsewhere.py'
    config.write_text(CONFIG.format(root='/nowhere'))
    root = str(Path(paths[0]).parent)
    tool.main(tool.parse_args([str(config), paths[1], '--linear', '--data-root', root]))
    assert 'features: 24 to fit, 24 to test' in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments, error, message',
    [
        (['--data-root', '/nowhere'], FileNotFoundError, '--data-root /nowhere is not a folder'),
        (['--out', '/nowhere/out.json'], FileNotFoundError, 'there is no folder /nowhere'),
        (['--neighbours', '25'], ValueError, 'neighbours=25 .* 24'),
        (['--cfg-options', 'val_datalader.batch_size=1'], KeyError, 'did you mean val_dataloader'),
    ],
)
def test_bad_input_is_refused(tool, paths, arguments, error, message):
    with pytest.raises(error, match=message):
        tool.main(tool.parse_args([*paths, *arguments]))


def test_a_missing_checkpoint_is_refused(tool, paths):
    with pytest.raises(FileNotFoundError, match=r'checkpoint gone\.pth'):
        tool.main(tool.parse_args([paths[0], 'gone.pth']))


def test_the_trunk_is_that_of_the_checkpoint(tool, paths):
    cfg = Config.fromfile(paths[0])
    init_default_scope('a2mim')
    weight = tool.load_model(cfg, paths[1]).backbone.model.conv1[0].weight
    assert torch.equal(weight, torch.load(paths[1])['conv1.0.weight'])


def test_a_config_without_labels_is_refused(tool, tmp_path):
    (tmp_path / 'pretrain.py').write_text("default_scope = 'a2mim'")
    with pytest.raises(ValueError, match='give a fine-tuning config'):
        tool.main(tool.parse_args([str(tmp_path / 'pretrain.py'), 'trunk.pth']))


def test_without_a_checkpoint_the_features_are_those_of_seeded_random_weights(
    tool, paths, tmp_path
):
    found = []
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        out = tmp_path / f'{name}.json'
        tool.main(
            tool.parse_args([paths[0], '--seed', str(seed), '--neighbours', '3', '--out', str(out)])
        )
        found.append(json.loads(out.read_text()))
    assert found[0] == found[1]
    assert found[0]['checkpoint'] is None
