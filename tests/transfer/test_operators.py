"""Operators of torchvision in the place of mmcv's, through mmcv's public functions."""

import json
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from a2mim.transfer.operators import EXTENSION, install

# Before mmcv.ops, which looks for its operators when it is imported.
install()
from mmcv import ops  # noqa: E402

pytestmark = pytest.mark.integration

SEEDS = range(20)


def random_boxes(rng: np.random.Generator, count: int, size: float = 40) -> np.ndarray:
    corner = rng.uniform(-0.1 * size, size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.5, 0.6 * size, (count, 2))], 1)


def greedy_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    """Keep the best box, drop what overlaps it too much, go on with the next."""
    kept, left = [], list(np.argsort(-scores))
    area = np.prod(boxes[:, 2:] - boxes[:, :2] + offset, axis=1)
    while left:
        best = left.pop(0)
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[:, :2])
        high = np.minimum(boxes[best, 2:], boxes[:, 2:])
        shared = np.prod(np.clip(high - low + offset, 0, None), axis=1)
        overlap = shared / (area[best] + area - shared)
        left = [index for index in left if overlap[index] <= threshold]
    return kept


def hat_weights(start: float, cell: float, cells: int, samples: int, length: int) -> Tensor:
    """(cells, length): how much each position counts in the mean of the samples of each cell."""
    weights = torch.zeros(cells, length, dtype=torch.float64)
    for index in range(cells * samples):
        at = start + cell * (index + 0.5) / samples
        if -1 <= at <= length:
            at = min(max(at, 0), length - 1)
            low = int(at)
            weights[index // samples, low] += 1 - (at - low)
            weights[index // samples, min(low + 1, length - 1)] += at - low
    return weights / samples


def reference_roi_align(features, rois, size, scale, sampling_ratio, aligned):
    """Bilinear interpolation is a product of two hats, and so is its mean over a grid."""
    pooled = []
    for image, *corners in rois.tolist():
        left, top, right, bottom = (scale * value - 0.5 * aligned for value in corners)
        sides = [bottom - top, right - left]
        if not aligned:
            sides = [max(side, 1) for side in sides]
        rows, columns = (
            hat_weights(start, side / size, size, sampling_ratio or int(np.ceil(side / size)), n)
            for start, side, n in zip((top, left), sides, features.shape[2:], strict=True)
        )
        pooled.append(rows @ features[int(image)] @ columns.T)
    return torch.stack(pooled)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('seed', SEEDS)
def test_nms_keeps_what_the_greedy_rule_keeps(seed, offset):
    rng = np.random.default_rng([seed, offset])
    boxes, scores = random_boxes(rng, 60), rng.permutation(60) / 60
    threshold = float(rng.uniform(0.1, 0.8))
    kept = ops.nms(torch.tensor(boxes), torch.tensor(scores), threshold, offset)[1]
    assert kept.tolist() == greedy_nms(boxes, scores, threshold, offset)


def test_nms_of_classes_keeps_overlapping_boxes_of_two_classes():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 8, 9]])
    scores, classes = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1])
    kept = ops.batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.5))[1]
    assert kept.tolist() == [0, 2]


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('seed', SEEDS[:5])
def test_roi_align_and_its_gradient_are_those_of_bilinear_interpolation(
    seed, sampling_ratio, aligned
):
    rng = np.random.default_rng([seed, sampling_ratio, aligned])
    features = torch.tensor(rng.normal(size=(2, 3, 12, 16)), requires_grad=True)
    boxes, images = random_boxes(rng, 8, size=60), rng.integers(0, 2, (8, 1))
    rois, size = torch.tensor(np.concatenate([images, boxes], 1)), int(rng.integers(2, 8))
    weight = torch.tensor(rng.normal(size=(8, 3, size, size)))
    expected = reference_roi_align(features, rois, size, 0.25, sampling_ratio, aligned)
    (gradient,) = torch.autograd.grad((expected * weight).sum(), features)
    pooled = ops.roi_align(features, rois, size, 0.25, sampling_ratio, 'avg', aligned)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(torch.autograd.grad((pooled * weight).sum(), features)[0], gradient)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_returned_as_it_came(dtype):
    features = torch.rand(1, 2, 8, 8).to(dtype)
    rois = torch.tensor([[0, 1.5, 2, 6, 7]])
    pooled = ops.roi_align(features, rois.to(dtype), 2)
    assert pooled.dtype == dtype
    exact = ops.roi_align(features.float(), rois, 2)
    torch.testing.assert_close(pooled.float(), exact, rtol=2**-7, atol=0)
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]])
    kept = ops.nms(boxes.to(dtype), torch.tensor([0.5, 0.75, 0.25]).to(dtype), 0.5)[1]
    assert kept.tolist() == [1, 2]


def test_an_operator_that_torchvision_lacks_is_refused_by_name_when_it_is_called():
    boxes, scores = torch.rand(2, 4), torch.rand(2)
    with pytest.raises(NotImplementedError, match=r'softnms of mmcv is not compiled'):
        ops.soft_nms(boxes, scores)
    with pytest.raises(NotImplementedError, match=r"pool_mode='max'.*docs/compiled_operators.md"):
        ops.roi_align(torch.rand(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]), 2, 1, 0, 'max')


def test_a_second_install_changes_nothing():
    before = sys.modules[EXTENSION]
    assert install()
    assert sys.modules[EXTENSION] is before


def test_a_compiled_extension_is_left_alone(monkeypatch):
    compiled = ModuleType(EXTENSION)
    monkeypatch.setitem(sys.modules, EXTENSION, compiled)
    assert not install()
    assert sys.modules[EXTENSION] is compiled


def test_too_late_an_install_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, EXTENSION)
    with pytest.raises(ImportError, match=r'imported before a2mim.transfer'):
        install()


@pytest.fixture(scope='module')
def fresh_process() -> dict:
    """What one import of the package does to a new interpreter."""
    code = """
import json, sys
import a2mim.transfer
from mmengine.config.utils import MODULE2PACKAGE
loaded = [name for name in ('mmdet', 'mmseg', 'mmcv.ops') if name in sys.modules]
from mmcv.ops import RoIAlign
print(json.dumps(dict(loaded=loaded, mmseg=MODULE2PACKAGE['mmseg'], operator=RoIAlign.__name__)))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_the_operators_are_there_after_one_import(fresh_process):
    assert fresh_process['operator'] == 'RoIAlign'


def test_neither_the_packages_nor_the_operators_are_imported_for_it(fresh_process):
    assert fresh_process['loaded'] == []


def test_the_import_lets_configs_inherit_from_mmsegmentation(fresh_process):
    assert fresh_process['mmseg'] == 'mmseg'
