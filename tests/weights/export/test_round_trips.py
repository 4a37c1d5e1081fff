"""What is exported computes the same in the library that it was exported for."""

import json
import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file as load_safetensors

from a2mim.weights.export import export
from a2mim.weights.export.target import TOLERANCE, read_photograph

pytestmark = pytest.mark.integration

FAMILIES = ('resnet18', 'convnext_tiny', 'paper_vit', 'regnety')


def close(theirs: torch.Tensor, ours: torch.Tensor) -> bool:
    return theirs.shape == ours.shape and (theirs - ours).abs().max() < 1e-4 * ours.abs().max()


@pytest.mark.parametrize('key', FAMILIES)
@torch.no_grad()
def test_timm_loads_the_flat_file_strictly(source_of, tmp_path, key):
    source = source_of(key)
    image = read_photograph(source)
    check = export(source, 'timm', tmp_path / 'out.safetensors', image)
    assert check.report.rate == 1 and check.difference == 0
    model = timm.create_model(source.name, **source.options).eval()
    model.load_state_dict(load_safetensors(tmp_path / 'out.safetensors'))
    assert torch.equal(model(image), source.model(image))


@pytest.mark.integration
@pytest.mark.parametrize(
    'key, build, last',
    [
        ('resnet50', torchvision.models.resnet50, 'fc'),
        ('convnext_tiny', torchvision.models.convnext_tiny, 'classifier.2'),
        ('vit_base', torchvision.models.vit_b_16, 'heads.head'),
        ('swin', torchvision.models.swin_t, 'head'),
    ],
)
@torch.no_grad()
def test_torchvision_computes_what_our_classifier_would_get(source_of, tmp_path, key, build, last):
    source = source_of(key)
    image = read_photograph(source)
    check = export(source, 'torchvision', tmp_path / 'out.pth', image)
    assert check.report.rate == 1
    model = build()
    state = torch.load(tmp_path / 'out.pth', weights_only=True)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert {name.rpartition('.')[0] for name in missing} == {last} and not unexpected
    model.set_submodule(last, torch.nn.Identity())
    pooled = timm.create_model(source.name, num_classes=0)
    pooled.load_state_dict(source.backbone_state())
    assert close(model.eval()(image), pooled.eval()(image))


@torch.no_grad()
def test_a_classifier_goes_along_to_torchvision(source_of, tmp_path):
    source = source_of('resnet18', num_classes=7)
    image = read_photograph(source)
    export(source, 'torchvision', tmp_path / 'out.pth', image)
    model = torchvision.models.resnet18(num_classes=7)
    model.load_state_dict(torch.load(tmp_path / 'out.pth', weights_only=True))
    assert close(model.eval()(image), source.model(image))


@pytest.mark.integration
@pytest.mark.parametrize('key', FAMILIES)
@torch.no_grad()
def test_a_folder_opens_in_timm_and_transformers(source_of, tmp_path, key, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    transformers = pytest.importorskip('transformers')
    source, folder = source_of(key), tmp_path / 'folder'
    image = read_photograph(source)
    check = export(source, 'huggingface', folder, image)
    assert 'transformers' in check.library
    assert {path.name for path in folder.iterdir()} == {'config.json', 'model.safetensors'}
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    assert config['architecture'] == source.name
    wrapper = transformers.AutoModel.from_pretrained(folder).eval()
    assert close(wrapper(image).last_hidden_state, source.model.forward_features(image))


@pytest.mark.integration
@torch.no_grad()
def test_a_classifier_goes_along_to_transformers(source_of, tmp_path):
    transformers = pytest.importorskip('transformers')
    source = source_of('resnet18', num_classes=7)
    image = read_photograph(source)
    export(source, 'huggingface', tmp_path / 'folder', image)
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / 'folder')
    assert close(model.eval()(image).logits, source.model(image))


@pytest.mark.integration
@pytest.mark.parametrize('key', FAMILIES)
@torch.no_grad()
def test_onnxruntime_computes_the_same_for_every_batch_size(source_of, tmp_path, key):
    onnx, onnxruntime = map(pytest.importorskip, ('onnx', 'onnxruntime'))
    source, path = source_of(key), tmp_path / 'out.onnx'
    image = read_photograph(source)
    check = export(source, 'onnx', path, image)
    assert check.difference <= TOLERANCE * check.scale
    assert [p.name for p in tmp_path.iterdir()] == ['out.onnx']  # no weights beside it
    onnx.checker.check_model(path)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (features,) = session.run(['features'], {'image': image.expand(2, -1, -1, -1).numpy()})
    assert np.allclose(features[0], features[1])
    assert close(torch.from_numpy(features[:1]), source.model(image))


@torch.no_grad()
def test_detectron2_gets_numpy_arrays_that_lead_back_to_timm(source_of, tmp_path):
    source = source_of('resnet50')
    check = export(source, 'detectron2', tmp_path / 'out.pkl', read_photograph(source))
    assert check.report.rate == 1
    content = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert content['matching_heuristics'] is True
    assert isinstance(content['__author__'], str)
    arrays, state = content['model'], source.model.state_dict()
    assert {type(array) for array in arrays.values()} == {np.ndarray}
    for theirs, ours in (
        ('stem.conv1.weight', 'conv1.weight'),
        ('stem.conv1.norm.running_var', 'bn1.running_var'),
        ('res2.0.shortcut.weight', 'layer1.0.downsample.0.weight'),
        ('res3.0.shortcut.norm.bias', 'layer2.0.downsample.1.bias'),
        ('res5.2.conv3.norm.weight', 'layer4.2.bn3.weight'),
    ):
        assert np.array_equal(arrays[theirs], state[ours].numpy())
    assert len(arrays) == len(state)
