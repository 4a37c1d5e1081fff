"""The pickle for Detectron2, read by Detectron2's own rules, since no package index carries it.

The reader and the network below are written from its documentation and its published behaviour:
``DetectionCheckpointer`` reads ``{'model', '__author__', 'matching_heuristics'}`` as it is, turns
arrays into tensors, and gives each parameter of a detector the longest name of the file that is a
whole suffix of its own name; other shapes are left out, and a name of the file that fits two
parameters is an error. A convolution has its norm as ``norm``, a bottleneck its strides in the
3×3 convolution unless ``STRIDE_IN_1X1`` is set.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from a2mim.weights.export import export
from a2mim.weights.export.target import read_photograph

DEPTHS = (3, 4, 6, 3)


class Conv(nn.Conv2d):
    """A convolution that holds its norm."""

    def __init__(self, channels: int, out: int, side: int, stride: int = 1) -> None:
        super().__init__(channels, out, side, stride, side // 2, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, in_1x1: bool) -> None:
        super().__init__()
        strides = (stride, 1) if in_1x1 else (1, stride)
        self.shortcut = Conv(channels, out, 1, stride) if channels != out else nn.Identity()
        self.conv1 = Conv(channels, out // 4, 1, strides[0])
        self.conv2 = Conv(out // 4, out // 4, 3, strides[1])
        self.conv3 = Conv(out // 4, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def stage(number: int, in_1x1: bool) -> nn.Sequential:
    out = 256 * 2**number
    channels = 64 if number == 0 else out // 2
    first = Block(channels, out, 1 if number == 0 else 2, in_1x1)
    return nn.Sequential(first, *(Block(out, out, 1, in_1x1) for _ in range(DEPTHS[number] - 1)))


class Backbone(nn.Module):
    def __init__(self, stages: int, in_1x1: bool = False) -> None:
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = Conv(3, 64, 7, 2)
        self.names = [f'res{number + 2}' for number in range(stages)]
        for number, name in enumerate(self.names):
            self.add_module(name, stage(number, in_1x1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem.conv1(x)), 3, 2, 1)
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


class Detector(nn.Module):
    """What the three detectors of the configs hold, as far as names go."""

    def __init__(self, kind: str, in_1x1: bool = False) -> None:
        super().__init__()
        if kind == 'C4':
            self.backbone = Backbone(3, in_1x1)
            self.roi_heads = nn.Module()
            self.roi_heads.res5 = stage(3, in_1x1)
            self.roi_heads.res5.norm = nn.BatchNorm2d(2048)  # Res5ROIHeadsExtraNorm
        else:
            self.backbone = nn.Module()
            self.backbone.bottom_up = Backbone(4, in_1x1)
            self.backbone.fpn_lateral5 = Conv(2048, 256, 1)
            self.backbone.fpn_output5 = Conv(256, 256, 3)
        self.head = nn.Sequential(nn.Conv2d(256, 256, 3), nn.Conv2d(256, 4, 1))

    def features(self, image: Tensor) -> Tensor:
        if hasattr(self, 'roi_heads'):
            return nn.Sequential(*[*self.roi_heads.res5.children()][:-1])(self.backbone(image))
        return self.backbone.bottom_up(image)


def read(path: Path, model: nn.Module) -> tuple[set[str], set[str]]:
    """Load by the rules; returns the names of the model and of the file that found nothing."""
    content = pickle.loads(path.read_bytes(), encoding='latin1')
    assert {'model', '__author__'} <= content.keys() and content['__author__'] != 'Caffe2'
    assert content['matching_heuristics']
    state, found = model.state_dict(), {}
    for name in state:
        fitting = [key for key in content['model'] if f'.{name}'.endswith(f'.{key}')]
        if fitting:
            key = max(fitting, key=len)
            array = content['model'][key]
            assert isinstance(array, np.ndarray)
            if array.shape == state[name].shape:
                assert key not in found, f'{key} fits {found[key]} and {name}'
                found[key] = name
                state[name] = torch.from_numpy(np.array(array))
    model.load_state_dict(state)
    return state.keys() - found.values(), content['model'].keys() - found.keys()


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize('kind', ['C4', 'FPN'])
def test_a_detector_takes_every_tensor_and_has_the_features_of_the_backbone(
    source_of, tmp_path, kind
):
    source, path = source_of('resnet50'), tmp_path / 'trunk.pkl'
    image = read_photograph(source)
    check = export(source, 'detectron2', path, image)
    assert 'list of names' in str(check)  # Detectron2 itself was not there
    detector = Detector(kind).eval()
    missing, left = read(path, detector)
    own = {'C4': ('roi_heads.res5.norm.', 'head.'), 'FPN': ('backbone.fpn_', 'head.')}[kind]
    assert missing and all(name.startswith(own) for name in missing)
    assert not left
    expected = source.final_map(image)
    assert error(detector.features(image), expected) < 1e-4
    # The stride in the 1×1 convolution, Detectron2's default, takes the tensors and errs.
    other = Detector(kind, in_1x1=True).eval()
    assert read(path, other) == (missing, left)
    assert error(other.features(image), expected) > 5e-3


def test_a_name_that_fits_two_parameters_and_another_shape_are_noticed(tmp_path):
    path = tmp_path / 'file.pkl'
    arrays = {'conv1.weight': np.zeros((64, 64, 1, 1), np.float32)}
    path.write_bytes(pickle.dumps(dict(model=arrays, __author__='x', matching_heuristics=True)))
    with pytest.raises(AssertionError, match=r'conv1\.weight fits'):
        read(path, nn.ModuleList([Block(64, 256, 1, False), Block(64, 256, 1, False)]))
    _, left = read(path, nn.ModuleList([Block(128, 256, 1, False)]))
    assert left == {'conv1.weight'}
