"""The loss surface against closed forms, and that the weights are left as they were."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from a2mim.analysis import PartStore
from a2mim.analysis.landscape import (
    displaced,
    line,
    measure_surface,
    parse_axis,
    random_direction,
    weights_of,
)
from a2mim.analysis.landscape_study import find_trajectory, run_checkpoints


def quadratic(weight: torch.Tensor, hessian: torch.Tensor) -> float:
    """Half of w·H·w, of the flattened weight."""
    flat = weight.flatten()
    return float(flat @ hessian @ flat / 2)


def test_surface_of_a_quadratic_is_its_parabola(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight, root = torch.randn(2, 3, dtype=torch.double), torch.randn(6, 6, dtype=torch.double)
    hessian = root @ root.T
    direction = random_direction({'w': weight}, 1)
    axis = parse_axis('-1:1:5')
    w, d = weight.flatten().clone(), direction['w'].flatten()
    found = measure_surface(
        {'w': weight},
        [direction],
        [axis],
        lambda: dict(loss=quadratic(weight, hessian)),
        PartStore(tmp_path, 'net', {}),
    )
    x = axis.steps()
    expected = float(w @ hessian @ w) / 2 + x * float(w @ hessian @ d)
    expected += x**2 * float(d @ hessian @ d) / 2
    np.testing.assert_allclose(found['loss'], expected, rtol=1e-10)


def test_resumed_surface_is_the_same_and_measures_only_what_is_missing(tmp_path: Path) -> None:
    weight = torch.ones(2, 2)
    directions = [random_direction({'w': weight}, seed) for seed in (0, 1)]
    axes = [parse_axis('-1:1:3'), parse_axis('0:1:2')]
    calls = []

    def measure(limit: int) -> dict[str, float]:
        if len(calls) == limit:
            raise KeyboardInterrupt
        calls.append(1)
        return dict(loss=float(weight.sum()))

    def run(folder: Path, limit: int) -> np.ndarray:
        store = PartStore(folder, 'net', {})
        return measure_surface({'w': weight}, directions, axes, lambda: measure(limit), store)[
            'loss'
        ]

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'a', 4)
    assert torch.equal(weight, torch.ones(2, 2))  # put back after an interruption too
    resumed = run(tmp_path / 'a', 100)
    assert len(calls) == 6
    np.testing.assert_array_equal(resumed, run(tmp_path / 'b', 100))


def test_filters_are_as_long_as_those_of_the_weights() -> None:
    weight = torch.randn(4, 3, 2, 2)
    direction = random_direction({'w': weight}, 0)['w']
    torch.testing.assert_close(direction.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))


def test_other_norms() -> None:
    weight = torch.randn(4, 6)
    layer, unit_filter, unit_layer = (
        random_direction({'w': weight}, 0, norm=norm)['w']
        for norm in ('layer', 'dfilter', 'dlayer')
    )
    torch.testing.assert_close(layer.norm(), weight.norm())
    torch.testing.assert_close(unit_filter.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(unit_layer.norm(), torch.tensor(1.0))


def test_biasbn_leaves_one_axis_tensors_where_they_are() -> None:
    weights = dict(weight_of_norm=torch.randn(4), w=torch.randn(4, 2))
    assert not random_direction(weights, 0)['weight_of_norm'].any()
    kept = random_direction(weights, 0, ignore=None)['weight_of_norm']
    assert torch.equal(kept, weights['weight_of_norm'])


def test_weights_are_restored_bit_for_bit_in_states_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = weights_of(model, 'states')
    assert '1.running_var' in weights
    with displaced(weights, [random_direction(weights, 0, ignore=None)]) as move:
        move(0.3)
        assert not torch.equal(model[0].weight, before['0.weight'])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_line_ends_at_the_second_network() -> None:
    first, second = ({'w': torch.randn(5, 5)} for _ in range(2))
    ends = first['w'].clone(), second['w']
    with displaced(first, [line(first, second)]) as move:
        for step, end in enumerate(ends):
            move(float(step))
            torch.testing.assert_close(first['w'], end)


def test_line_between_two_architectures_is_refused() -> None:
    with pytest.raises(ValueError, match='one architecture'):
        line({'w': torch.ones(2, 2)}, {'w': torch.ones(3, 2)})


def test_trajectory_in_a_plane_is_explained_wholly() -> None:
    final = {'w': torch.zeros(3, 4)}
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    runs = [{'w': p * a + q * b} for p, q in ((1.0, 0.5), (0.6, 0.9), (0.2, 0.1), (0.0, 0.0))]
    path = find_trajectory(final, runs)
    assert path.explained.sum() == pytest.approx(1, abs=1e-6)
    assert np.abs(path.points).max() <= 1
    for run, point in zip(runs, path.points, strict=True):
        rebuilt = sum(float(c) * d['w'] for c, d in zip(point, path.directions, strict=True))
        torch.testing.assert_close(rebuilt, run['w'], atol=1e-5, rtol=1e-5)


def test_trajectory_of_too_few_checkpoints_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises(ValueError, match='max_keep_ckpts'):
        run_checkpoints(tmp_path, 'epoch', 0, None)


@pytest.mark.parametrize('text', ['0:1', '0:1:1', '1:0:5', 'a:b:3', '0:inf:3', '0:1:2.5'])
def test_malformed_grid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='grid'):
        parse_axis(text)
