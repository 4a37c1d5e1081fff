"""The benchmark of the training step compares equal computations; speed is not tested."""

from types import ModuleType

import pytest
from mmengine import Config

from a2mim.registry import MODELS
from toy_run import ROOT, load_tool

TINY = {
    'resnet50': dict(model_name='resnet10t'),
    'vit_base': dict(embed_dim=32, depth=2, num_heads=2),
    'convnext_small': dict(model_name='convnext_atto'),
}


@pytest.fixture
def benchmark(monkeypatch) -> ModuleType:
    """The tool with small, fast backbones."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))
    tool = load_tool('benchmarks/train_step')
    load_recipe = tool.load_recipe

    def tiny_recipe(name: str, image_size: int) -> Config:
        cfg = load_recipe(name, image_size)
        cfg.model.backbone.update(TINY[name])
        return cfg

    monkeypatch.setattr(tool, 'load_recipe', tiny_recipe)
    return tool


@pytest.mark.parametrize(
    'name, dtype', [*((name, 'float32') for name in TINY), ('convnext_small', 'bfloat16')]
)
def test_a_round_gives_a_row_of_the_table(benchmark, capsys, name, dtype):
    argv = f'--models {name} --batch 2 --image-size 64 --rounds 1 --dtype {dtype}'
    benchmark.main(argv.split())
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith(f'| {name} | 2 |')
    assert len(row.split('|')) == 9


@pytest.mark.parametrize('name', TINY)
def test_both_train_the_same_backbone(benchmark, name):
    cfg = benchmark.load_recipe(name, 64)
    ours = MODELS.build(cfg.model).backbone.model.state_dict()
    twin = benchmark.supervised_model(cfg).state_dict()
    differing = {key.split('.')[0] for key in ours.keys() ^ twin.keys()}
    assert differing <= {'fc', 'fc_norm', 'head', 'norm'}
    assert all(ours[key].shape == twin[key].shape for key in ours.keys() & twin.keys())
