"""``list_stages.py``: the printed layer names work as ``mask_after``."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from a2mim.models.timm_backbone import TimmBackbone

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'list_stages.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('list_stages', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(tool: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """The printed rows, by path, blanks reduced to one."""
    tool.main(list(arguments))
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: ' '.join(line.split()[1:]) for line in lines}


def test_stages_have_index_width_stride_grid_and_blocks(tool, capsys):
    printed = rows(tool, capsys, 'resnet18')
    assert printed['resnet18,'] == 'image of 224×224 pixels'
    assert printed['layer3'] == '3 256 16 14×14 16, 32, 112, 224'
    assert printed['maxpool'] == '64 4 56×56 4, 8, 16, 28, 32, 56, 112, 224'
    assert 'layer3.0' not in printed


@pytest.mark.parametrize(
    'arguments, path, row',
    [
        (['resnet18', '--img-size', '64', '96'], 'layer3', '3 256 16 4×6 16, 32'),
        (['vit_tiny_patch16_224', '--img-size', '64'], 'patch_embed', '192 16 4×4 16, 32, 64'),
        (
            ['convnext_atto', '--img-size', '64'],
            'stages.3.downsample',
            '320 32 2×2 32, 64',
        ),
        (
            ['vit_tiny_patch16_224', '--model-options', 'depth=2', 'img_size=32', 'embed_dim=48'],
            'blocks.1',
            '1 48 16 2×2 16, 32',
        ),
        (['resnet18', '--all'], 'layer3.0.conv1', '256 16 14×14 16, 32, 112, 224'),
    ],
)
def test_size_options_and_depth_of_the_list_can_be_chosen(tool, capsys, arguments, path, row):
    assert rows(tool, capsys, *arguments)[path] == row


@pytest.mark.parametrize('name', ['resnet18', 'swin_tiny_patch4_window7_224'])
def test_everything_listed_works(tool, name):
    model, image_shape = tool.build(name, None, {})
    for path, _, layout in tool.places(model, image_shape, everything=False):
        with torch.device('meta'):
            backbone = TimmBackbone(name, mask_after=path)
        assert (backbone.mask_channels, backbone.mask_stride) == (layout.channels, layout.stride)


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['resnet19'], 'close to it: .*resnet18'),
        (['coat_tiny'], 'timm builds no coat_tiny'),
        (['resnet18', '--model-options', 'depht=3'], "'depht'"),
    ],
)
def test_what_cannot_be_listed_is_explained(tool, capsys, arguments, words):
    with pytest.raises(SystemExit, match='2'):
        tool.main(arguments)
    assert re.search(words, capsys.readouterr().err)
