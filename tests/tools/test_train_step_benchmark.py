"""The benchmark of the training step compares equal computations; speed is not tested."""

import argparse
from types import ModuleType

import pytest
import torch

from a2mim.engine.guard import GuardedStep
from toy_run import ROOT, load_tool

pytestmark = pytest.mark.integration

NAMES = ('resnet50', 'vit_base', 'convnext_small')


@pytest.fixture
def benchmark(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))
    return load_tool('benchmarks/train_step')


@pytest.mark.parametrize(
    'name, dtype',
    [
        *((name, 'float32') for name in (*NAMES, 'mae_vit_base', 'spark_resnet50')),
        ('data2vec_vit_base', 'bfloat16'),
        ('convnext_small', 'bfloat16'),
    ],
)
def test_a_round_gives_a_row_of_the_table(benchmark, capsys, name, dtype):
    argv = f'--reduced --models {name} --batch 2 --rounds 1 --dtype {dtype}'
    benchmark.main(argv.split())
    text = capsys.readouterr().out
    assert 'in the real runner' in text.splitlines()[0]
    row = text.splitlines()[-1]
    assert row.startswith(f'| {name} | 2 |')
    assert len(row.split('|')) == 9


@pytest.mark.parametrize('name', NAMES)
def test_the_real_runner_trains_the_backbone_of_the_supervised_step(benchmark, tmp_path, name):
    args = argparse.Namespace(
        batch=2, image_size=64, dtype='float32', device='cpu', reduced=True, threads=1
    )
    with benchmark.real_recipe(name, tmp_path, args) as run:
        model, wrapper = run.runner.model, run.runner.optim_wrapper
        ours = model.backbone.model.state_dict()
        twin = benchmark.supervised_model(run.runner.cfg).state_dict()
        differing = {key.split('.')[0] for key in ours.keys() ^ twin.keys()}
        assert differing <= {'fc', 'fc_norm', 'head', 'norm'}
        assert all(ours[key].shape == twin[key].shape for key in ours.keys() & twin.keys())
        before = model.neck.projection.weight.detach().clone()
        for _ in range(3):
            run.step()
        assert isinstance(wrapper, GuardedStep) and wrapper.guard is not None
        assert run.runner.iter == 3
        assert not torch.equal(model.neck.projection.weight, before)
