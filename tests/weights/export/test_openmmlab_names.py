"""Exports for MMDetection and MMSegmentation have the names and numbers of their backbones."""

import json
import sys
from pathlib import Path

import pytest
import torch

from a2mim.weights.export import TARGETS, export
from a2mim.weights.export.openmmlab import VitSize, convnext_shapes, find_equivalent, vit_shapes
from a2mim.weights.export.target import read_photograph
from a2mim.weights.safe_load import load_file

pytestmark = pytest.mark.integration

# The published system took these names over from the library that MMPretrain grew out of.
STATES = Path(__file__).parents[2] / 'data' / 'backbones' / 'parity.json'
NOT_TAKEN = ('mask_token', 'mask_gamma', 'relative_position_index')


def published(name: str) -> dict[str, tuple[int, ...]]:
    states = json.loads(STATES.read_text(encoding='utf-8'))['states']
    return {k: tuple(v) for k, v in states[name].items() if not k.endswith(NOT_TAKEN)}


def test_the_list_of_a_convnext_is_the_published_one():
    assert convnext_shapes([3, 3, 9, 3], [96, 192, 384, 768]) == published('convnext_tiny')


def test_the_list_of_the_papers_vit_is_the_published_one():
    state = published('vit_with_tables')
    width = state['cls_token'][2]
    side = round((state['pos_embed'][1] - 1) ** 0.5)
    size = VitSize(
        width=width,
        depth=1 + max(int(key.split('.')[1]) for key in state if key.startswith('layers.')),
        heads=state['layers.0.attn.relative_position_bias_table'][1],
        hidden=state['layers.0.ffn.layers.0.0.weight'][0],
        patch=state['patch_embed.projection.weight'][2],
        grid=(side, side),
        channels=3,
    )
    assert vit_shapes('mmpretrain.BEiTViT', size, absolute=True, final_norm=True) == state


@pytest.mark.parametrize(
    'key, library, kind',
    [
        ('resnet50', 'mmdet', 'mmdet.ResNet'),
        ('resnet50', 'mmseg', 'mmseg.ResNet'),
        ('convnext_tiny', 'mmdet', 'mmpretrain.ConvNeXt'),
        ('convnext_atto', 'mmseg', 'mmpretrain.ConvNeXt'),
        ('paper_vit', 'mmdet', 'mmpretrain.BEiTViT'),
        ('paper_vit', 'mmpretrain', 'mmpretrain.BEiTViT'),
        ('resnet50', 'mmpretrain', 'mmpretrain.ResNet'),
        ('paper_vit', 'mmseg', 'mmseg.MAE'),
        ('beit', 'mmseg', 'mmseg.BEiT'),
        ('small_vit', 'mmdet', 'mmpretrain.VisionTransformer'),
        ('small_vit', 'mmseg', 'mmseg.VisionTransformer'),
    ],
)
def test_every_family_has_its_backbone(source_of, tmp_path, key, library, kind):
    source = source_of(key)
    twin = find_equivalent(library, source)
    assert twin.kind == kind
    check = export(source, library, tmp_path / 'out.pth', read_photograph(source))
    assert check.report.rate == 1 and not check.report.mismatched
    assert len(load_file(tmp_path / 'out.pth')) == len(twin.state)
    assert twin.options.get('linear_pw_conv', True) == (key != 'convnext_atto')


def test_the_biases_of_queries_and_values_become_one(source_of):
    source = source_of('paper_vit')
    state = source.model.state_dict()
    joint = find_equivalent('mmseg', source).state['layers.1.attn.qkv.bias']
    query, key, value = joint.chunk(3)
    assert torch.equal(query, state['blocks.1.attn.q_bias'])
    assert torch.equal(value, state['blocks.1.attn.v_bias'])
    assert not key.any()


def test_a_library_that_is_missing_is_named_and_nothing_claimed(source_of, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    source = source_of('paper_vit')
    check = export(source, 'mmseg', tmp_path / 'out.pth', read_photograph(source))
    assert 'list of names of mmseg.MAE: 51 tensors, 100% match' in str(check)
    assert 'NOT loaded back, no features compared: the library is not here to import' in str(check)


@pytest.mark.parametrize('error, said', [
    ("TypeError('NoneType takes no arguments')", 'TypeError: NoneType takes no arguments'),
    ("AssertionError('mmcv 3 is not compatible\\nsecond line')", 'AssertionError: mmcv 3 is not'),
    ('AttributeError()', 'AttributeError: no message'),
    ("ImportError('undefined symbol')", 'ImportError: undefined symbol'),
    ("ModuleNotFoundError('no mmcv._ext', name='mmcv._ext')", 'no mmcv._ext'),
])  # fmt: skip
@pytest.mark.parametrize('target, library, key', [
    ('mmdet', 'mmpretrain', 'convnext_tiny'),
    ('mmseg', 'mmseg', 'paper_vit'),
    ('detectron2', 'detectron2', 'resnet50'),
    ('huggingface', 'transformers', 'small_vit'),
])  # fmt: skip
def test_a_library_that_cannot_be_used_is_quoted_and_the_file_written(
    source_of, tmp_path, monkeypatch, target, library, key, error, said
):
    package = tmp_path / 'site' / library
    package.mkdir(parents=True)
    (package / '__init__.py').write_text(f'raise {error}')
    for name in [name for name in sys.modules if name.split('.')[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    source, suffix = source_of(key), TARGETS[target].suffixes[0]
    check = export(source, target, tmp_path / f'out{suffix}', read_photograph(source))
    assert (tmp_path / f'out{suffix}').exists()
    assert f'{library} raised' in str(check) and said in str(check)
    assert 'second line' not in str(check)
    assert ('transformers below 5' in str(check)) == (library == 'mmpretrain')
