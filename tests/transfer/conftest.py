"""What the tests with detectors and segmentors share: images, and weights to start from."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from yapf.yapflib import yapf_api

from shrunk_detector import WIDTH, write_shapes

NARROW = dict(embed_dim=WIDTH, num_heads=4)
# Trunks by a part of the config's name: timm's name and the options of the pre-training.
TRUNKS = {
    '_r50': ('resnet50', {}),
    'vit-base': (
        'beit_base_patch16_224',
        dict(use_abs_pos_emb=True, use_rel_pos_bias=True, init_values=0.1, **NARROW),
    ),
    'convnext-t': ('convnext_tiny', {}),
    'mae-base': ('vit_base_patch16_224', NARROW),
}


@pytest.fixture(autouse=True)
def plain_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Format configs in milliseconds: those of MMDetection take yapf a second, many times a run."""
    monkeypatch.setattr(
        yapf_api, 'FormatCode', lambda text, style_config: (ast.unparse(ast.parse(text)), True)
    )


@pytest.fixture(scope='session')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images for training and two for validation, in COCO's format."""
    return write_shapes(tmp_path_factory.mktemp('shapes'), images=6, val=2, size=96)


@pytest.fixture(scope='session')
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """The file of weights that fits a config."""
    folder, files = tmp_path_factory.mktemp('trunks'), {}

    def file_for(config: Path) -> Path:
        (part,) = (part for part in TRUNKS if part in config.stem)
        if part not in files:
            name, options = TRUNKS[part]
            torch.manual_seed(0)
            model = timm.create_model(name, num_classes=0, global_pool='', **options)
            files[part] = folder / f'{name}.pth'
            torch.save(model.state_dict(), files[part])
        return files[part]

    return file_for
