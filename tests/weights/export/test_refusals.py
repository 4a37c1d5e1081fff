"""An export that is not right leaves nothing behind and says why."""

import pytest
import timm
import torch

from a2mim.weights.export import TARGETS, check_path, export
from a2mim.weights.export.target import Check, read_photograph, read_source
from a2mim.weights.export.timm import TimmFile
from a2mim.weights.files import save_file
from a2mim.weights.fit import compare

SHAPES = {'a.weight': (2,), 'b.weight': (3,)}


@pytest.mark.parametrize(
    'target, name, words',
    [
        ('keras', 'out.pth', r"no target 'keras'; there are timm, torchvision, huggingface, mmdet"),
        ('timm', 'out.onnx', r'out.onnx must end in \.safetensors or \.pth for timm'),
        ('mmseg', 'out.safetensors', r'must end in \.pth for mmseg'),
        ('detectron2', 'out.pth', r'must end in \.pkl for detectron2'),
        ('onnx', 'out', r'must end in \.onnx for onnx'),
        ('huggingface', 'out.safetensors', r'must be a folder for huggingface'),
    ],
)
def test_a_path_that_does_not_fit_is_refused(tmp_path, target, name, words):
    with pytest.raises(ValueError, match=words):
        check_path(target, tmp_path / name, force=False)


def test_nothing_is_overwritten_unasked(tmp_path):
    (tmp_path / 'out.pth').write_text('precious')
    with pytest.raises(FileExistsError, match=r'out.pth exists.*--force'):
        check_path('timm', tmp_path / 'out.pth', force=False)
    check_path('timm', tmp_path / 'out.pth', force=True)


@pytest.mark.parametrize(
    'key, target, words',
    [
        ('paper_vit', 'torchvision', r'no twin of beit_base_patch16_224 \(Beit\)'),
        ('paper_vit', 'detectron2', r'only resnet50, resnet101, resnet152'),
        ('small_vit', 'torchvision', r'no twin of vit_tiny'),
        ('resnet18', 'detectron2', r'not resnet18'),
    ],
)
def test_a_family_that_the_target_lacks_is_refused_with_those_that_fit(
    source_of, tmp_path, key, target, words
):
    source = source_of(key)
    with pytest.raises(ValueError, match=rf'{words}.*targets that fit: timm, .*onnx'):
        export(source, target, tmp_path / 'out', read_photograph(source))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('target', ['torchvision', 'mmdet', 'mmseg'])
def test_another_width_than_the_targets_is_refused(tmp_path, target):
    grey = timm.create_model('resnet18', num_classes=0, in_chans=1)
    save_file(grey.state_dict(), tmp_path / 'a.pth')
    source = read_source(tmp_path / 'a.pth', 'resnet18', dict(in_chans=1))
    with pytest.raises(ValueError, match=r'conv1.weight \(64, 1, 7, 7\) for \(64, 3, 7, 7\)'):
        export(source, target, tmp_path / 'out.pth', read_photograph(source))
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


class Forgetful(TimmFile):
    """Leaves a tensor out."""

    def write(self, source, path):
        state = dict(source.model.state_dict())
        del state['layer4.1.conv2.weight']
        save_file(state, path)


class Wrong(TimmFile):
    """Writes another number into one weight."""

    def __init__(self, value: float) -> None:
        self.value = value

    def write(self, source, path):
        state = {key: tensor.clone() for key, tensor in source.model.state_dict().items()}
        state['layer4.1.bn2.bias'][0] = self.value
        save_file(state, path)


@pytest.mark.parametrize(
    'target, words',
    [
        (Forgetful(), r'(?s)does not load what was written.*layer4.1.conv2.weight'),
        (Wrong(9.0), r'computes other features: the largest difference is'),
        (Wrong(float('nan')), r'computes other features: the largest difference is nan'),
    ],
)
def test_an_export_that_reads_back_otherwise_leaves_nothing(
    source_of, tmp_path, monkeypatch, target, words
):
    monkeypatch.setitem(TARGETS, 'timm', target)
    source = source_of('resnet18')
    (tmp_path / 'out.pth').write_text('the old export')
    with pytest.raises(ValueError, match=words):
        export(source, 'timm', tmp_path / 'out.pth', read_photograph(source))
    assert [path.name for path in tmp_path.iterdir()] == ['out.pth']
    assert (tmp_path / 'out.pth').read_text() == 'the old export'


def test_a_check_refuses_less_than_the_whole_trunk():
    state = {'a.weight': torch.zeros(2), 'b.weight': torch.zeros(3)}
    for shapes in ({'a.weight': (2,)}, {**SHAPES, 'c.weight': (1,)}, {**SHAPES, 'b.weight': (4,)}):
        with pytest.raises(ValueError, match='somewhere does not take the whole backbone: '):
            Check('somewhere', compare(shapes, state)).verify()
    Check('somewhere', compare(SHAPES, state)).verify()


def test_a_truncated_trunk_is_refused(checkpoint_of, tmp_path):
    state = torch.load(checkpoint_of('resnet18'), weights_only=True)
    del state['layer4.1.conv2.weight']
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(
        ValueError,
        match=r'a.pth: .*99% match; 1 not in the file \(layer4.1.conv2.weight\).*--model-options',
    ):
        read_source(tmp_path / 'a.pth', 'resnet18', {})


def test_a_checkpoint_that_does_not_tell_its_model_asks_for_it(checkpoint_of):
    with pytest.raises(ValueError, match=r'does not tell which timm model it holds; add --model'):
        read_source(checkpoint_of('resnet18'), None, {})


def test_a_model_that_timm_does_not_have_is_refused(checkpoint_of):
    with pytest.raises(ValueError, match=r"has no model 'resnet17'"):
        read_source(checkpoint_of('resnet18'), 'resnet17', {})
