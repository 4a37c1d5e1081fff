"""The tools that look into networks, on timm's smallest and a few photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

import a2mim
from toy_run import load_tool

VIT, CNN = 'random:test_vit', 'random:test_resnet'
RUNS = [
    ('vis_erf', [VIT, CNN], 'erf'),
    ('vis_attention', [VIT, 'deep=random:test_vit2'], 'attention_distance'),
    ('vis_embedding', [VIT, CNN, '--perplexity', '3'], 'embedding'),
]


@pytest.mark.integration
@pytest.mark.parametrize(('tool', 'arguments', 'table'), RUNS)
def test_results_are_written(tmp_path: Path, tool: str, arguments: list, table: str) -> None:
    program = load_tool(f'visualizations/{tool}')
    program.main([*arguments, '--num-images', '6', '--batch-size', '4', '--out', str(tmp_path)])
    index = json.loads((tmp_path / 'result.json').read_text(encoding='utf-8'))
    files = [entry['file'] for entry in index['figures'] + index['tables']]
    assert f'{table}.csv' in files
    assert all((tmp_path / file).stat().st_size for file in files)


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('vis_erf', [CNN, '--stage', 'layer9'], "no module 'layer9'; its stages are act1"),
        ('vis_attention', [CNN], 'ResNet has no readable attention'),
        ('vis_attention', [VIT, '--block', '6'], 'block=6; it has 6'),
        ('vis_attention', [VIT, '--query', '100'], 'query=100; its patches are 0 to 99'),
        ('vis_embedding', [VIT, '--num-images', '1'], '1 image(s) cannot be embedded'),
        ('vis_embedding', [VIT, '--perplexity', '56'], 'less than the 56 images'),
        ('vis_cam', ['none.png', '--subjects', VIT], 'none.png'),
        ('vis_cam', [__file__], 'give IMAGE CONFIG CHECKPOINT, or IMAGE --subjects'),
    ],
)
def test_mistakes_are_one_line(
    tool: str, arguments: list, message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        load_tool(f'visualizations/{tool}').main(arguments)
    error = capsys.readouterr().err
    assert (end.value.code, error.count('\n')) == (2, 1)
    assert message in error


@pytest.fixture
def network(tmp_path: Path) -> list[str]:
    """An image, a config and a checkpoint of a classifier of four classes."""
    image, config, checkpoint = (tmp_path / name for name in ('a.png', 'c.py', 'w.pth'))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='TimmBackbone', model_name='test_vit', num_classes=4, img_size=32),
        loss=dict(type='CrossEntropyLoss'),
        data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    )
    Config(dict(default_scope='a2mim', model=model)).dump(config)
    built = a2mim.load_model(config, pretrained=False)
    torch.save(dict(state_dict=built.state_dict()), checkpoint)
    return [str(image), str(config), str(checkpoint)]


@pytest.mark.integration
def test_cam_takes_the_published_form(network: list[str], tmp_path: Path) -> None:
    tool, out = load_tool('visualizations/vis_cam'), tmp_path / 'cam.png'
    tool.main([*network, '--target-category', '0', '3', '--vit-like', '--save-path', str(out)])
    assert out.stat().st_size
    folder = tmp_path / 'cam'
    tool.main([network[0], '--subjects', VIT, CNN, '--save-path', str(folder)])
    assert {'cam.png', 'cam.pdf', 'cam.npz', 'result.json'} <= {p.name for p in folder.iterdir()}


def test_cam_previews_the_modules(network: list[str], capsys: pytest.CaptureFixture) -> None:
    load_tool('visualizations/vis_cam').main([*network, '--preview-model'])
    assert '(patch_embed)' in capsys.readouterr().out
