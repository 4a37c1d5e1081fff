"""The loader benchmark compares like with like."""

import importlib.util
from pathlib import Path

import pytest
import torch

from a2mim.datasets import SampleKey

TOOL = Path(__file__).parents[2] / 'tools/benchmarks/loader.py'


@pytest.fixture(scope='module')
def benchmark():
    spec = importlib.util.spec_from_file_location('loader_benchmark', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_paths_give_the_same_image_and_mask(benchmark, tmp_path):
    benchmark.write_files(tmp_path, enlarge=1, count=2)
    dataset = benchmark.build_ours(tmp_path, shrink_to=None)
    for index, path in enumerate(sorted(tmp_path.iterdir())):
        ours = dataset[SampleKey(index, epoch=3)]
        classic = benchmark.classic_sample(path, SampleKey(index, epoch=3), dataset)
        apart = benchmark.pixel_difference(ours, classic)
        assert apart.mean() <= 0.01
        assert apart.max() < 1.01
        assert torch.equal(ours['mask'], classic[2])


def test_a_row_of_the_table_has_its_columns(benchmark, tmp_path):
    benchmark.write_files(tmp_path, enlarge=1, count=1)
    assert len(benchmark.compare(tmp_path, None, rounds=1).split('|')) == 7


@pytest.mark.parametrize('shrink_to', [None, 100])
def test_the_floor_decodes_what_ours_decodes(benchmark, tmp_path, shrink_to):
    benchmark.write_files(tmp_path, enlarge=1, count=1, quality=benchmark.FINE)
    (path,) = tmp_path.iterdir()
    image = benchmark.build_ours(tmp_path, shrink_to).source.load(0)
    bare = benchmark.bare_decode(path.read_bytes(), shrink_to)
    assert torch.equal(torch.from_numpy(bare).permute(2, 0, 1), image)
