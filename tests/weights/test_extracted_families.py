"""The backbone of a model of every family is found again in an extracted file."""

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from a2mim.weights.fit import LoadReport, compare
from a2mim.weights.names import find_backbone

PAGE = Path(__file__).parents[2] / 'docs' / 'backbones.md'
# File and model of timm, as the page lists them.
LISTED = re.findall(r'^\| (\w+) \| (\w+) \| (?:`|\w+Error)', PAGE.read_text(), re.MULTILINE)


def named(name: str) -> dict[str, Tensor]:
    """The names of a timm network, and tensors without values."""
    with torch.device('meta'):
        return timm.create_model(name, num_classes=0).state_dict()


def read_back(file: dict, own: dict[str, Tensor]) -> LoadReport:
    return compare({k: tuple(v.shape) for k, v in own.items()}, find_backbone(file, own).state)


def test_the_page_is_read():
    assert len(LISTED) == 98
    assert {'deepseek_vit', 'gemma4_vit', 'qwen3_vit'} <= {file for file, _ in LISTED}


@pytest.mark.integration
@pytest.mark.parametrize('file, name', LISTED)
def test_every_family_is_extracted_and_read_back(file, name):
    own = named(name)
    ours = {f'backbone.model.{key}': tensor for key, tensor in own.items()}
    extracted = find_backbone({'state_dict': ours, 'meta': {}})
    assert extracted.state.keys() == own.keys()
    for before in ('', 'module.', 'backbone.', 'encoder.', 'teacher.trunk._orig_mod.'):
        state = {f'{before}{key}': tensor for key, tensor in extracted.state.items()}
        assert read_back(state, own).complete, before


@pytest.mark.parametrize('name', ['qwen3_vit_88m', 'deepseek_vit_412m', 'gemma4_vit_167m'])
@pytest.mark.parametrize('before', ['', 'encoder.', 'model.encoder.', 'backbone.model.'])
def test_a_prefix_that_is_timms_own_stays(name, before):
    own = named(name)
    assert all(key.startswith('encoder.') for key in own)
    file = {f'{before}{key}': tensor for key, tensor in own.items()}
    assert read_back(file, own).complete
    assert find_backbone(file, own).prefix == before


def test_weights_of_a_model_of_them_are_the_same_after_the_file(tmp_path):
    from a2mim.weights.fit import COMPLETE, load_backbone
    from a2mim.weights.safe_load import load_file

    def build() -> nn.Module:
        return timm.create_model('qwen3_vit_88m', num_classes=0, depth=1, embed_dim=48, num_heads=2)

    source, model = build(), build()
    torch.save(source.state_dict(), tmp_path / 'trunk.pth')
    load_backbone(model, load_file(tmp_path / 'trunk.pth'), 'trunk.pth', COMPLETE)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())
