"""Batch norm over processes: two real ones equal one with the joint batch, and never wait."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine import Config
from torch import nn

from a2mim.engine.processes import start_gloo_process
from a2mim.engine.sync_batch_norm import JointBatchNorm, join_batch_norm
from joint_batch import NETWORKS, SPLITS, images, network, part, results

WORKER = Path(__file__).parents[1] / 'joint_batch.py'
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def found(tmp_path_factory) -> list[dict[str, Any]]:
    """What both processes computed."""
    folder = tmp_path_factory.mktemp('joint')
    paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, WORKER, folder], env=environment, check=True, timeout=300)
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in (0, 1)]


def assert_equal_to_one_process(found: list[dict], case: str, name: str, split: str) -> None:
    model = network(name)
    expected = results(model, model, images())
    close = dict(rtol=1e-6, atol=1e-9)
    for rank in (0, 1):
        one = found[rank][case]
        for key in ('output', 'image'):
            wanted = part(expected[key], rank, SPLITS[split])
            torch.testing.assert_close(one[key], wanted, **close)
        torch.testing.assert_close(one['buffers'], expected['buffers'], **close)
    total = {
        key: found[0][case]['gradients'][key] + found[1][case]['gradients'][key]
        for key in expected['gradients']
    }
    torch.testing.assert_close(total, expected['gradients'], **close)


@pytest.mark.integration
@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('name', NETWORKS)
def test_two_processes_equal_one_with_the_joint_batch(found, name, split):
    assert_equal_to_one_process(found, f'{name} {split}', name, split)


@pytest.mark.integration
def test_a_network_is_compiled_in_one_graph_and_gives_the_same(found):
    assert_equal_to_one_process(found, 'compiled', 'resnet10t', 'equal')


@pytest.mark.integration
def test_compiled_in_ddp_the_all_reduce_of_a_bucket_begins_within_the_backward_pass(found):
    plain = [found[rank]['resnet10t equal']['gradients'] for rank in (0, 1)]
    mean = {name: (plain[0][name] + plain[1][name]) / 2 for name in plain[0]}
    for rank in (0, 1):
        one = found[rank]['compiled in DDP']
        assert one['buckets'] > 1
        torch.testing.assert_close(one['gradients'], mean, rtol=1e-6, atol=1e-9)


@pytest.mark.integration
def test_without_an_image_in_any_process_the_running_statistics_stay(found):
    for rank in (0, 1):
        before, after = found[rank]['nothing']
        statistics = {name for name in before if name.endswith(('_mean', '_var'))}
        assert statistics and all(torch.equal(before[name], after[name]) for name in statistics)


@pytest.mark.integration
def test_a_step_of_the_runner_never_waits_and_has_one_collective_a_layer_and_direction(found):
    for rank in (0, 1):
        layers, counts = found[rank]['runner']['layers'], found[rank]['runner']['counts']
        assert found[rank]['runner']['views'] and layers > 10 and len(counts) == 2
        for forward, backward in counts:
            assert forward['all_reduce'] == backward['all_reduce'] == layers
            # Beside them one of the guard, and DDP's: buffers before, gradients in the backward.
            assert forward.keys() <= {'all_reduce', 'allreduce_', 'broadcast_'}
            assert backward.keys() <= {'all_reduce', 'allreduce_'}


def test_in_one_process_it_is_ordinary_batch_norm():
    plain, joint = network('resnet10t'), join_batch_norm(network('resnet10t'))
    torch.testing.assert_close(results(joint, joint, images()), results(plain, plain, images()))


def test_only_layers_that_ask_for_it_are_joined():
    class OfMmcv(nn.SyncBatchNorm):
        pass

    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3), OfMmcv(3))
    join_batch_norm(model, every=False)
    assert [type(layer) for layer in model] == [nn.BatchNorm2d, JointBatchNorm, JointBatchNorm]


def test_the_formulas_in_reduced_precision_stay_those_of_torch(monkeypatch):
    # The part of the layer that has no collective, with one process that counts as a group.
    from a2mim.engine import sync_batch_norm as module

    monkeypatch.setattr(module.distributed, 'get_world_size', lambda group: 1)
    monkeypatch.setattr(module.distributed, 'get_rank', lambda group: 0)
    monkeypatch.setattr(module.collectives, 'all_reduce', lambda x, *_: x)
    monkeypatch.setattr(module.collectives, 'wait_tensor', lambda x: x)
    x = torch.randn(4, 3, 5, 5).bfloat16() + 2
    weight, bias = torch.rand(3), torch.rand(3)
    output, mean, var, count = module._Normalize.apply(x, weight, bias, 1e-5, None)
    expected = nn.functional.batch_norm(x.float(), None, None, weight, bias, True)
    assert output.dtype == torch.bfloat16 and mean.dtype == var.dtype == torch.float32
    torch.testing.assert_close(output.float(), expected, rtol=8e-3, atol=8e-3)
    torch.testing.assert_close(mean, x.float().mean((0, 2, 3)))
    assert count == 100


def test_torchs_own_layer_is_refused_on_a_cpu():
    with pytest.raises(ValueError, match=r"'torch_native' needs GPUs.*sync_bn='torch'"):
        start_gloo_process(Config(dict(sync_bn='torch_native')))
