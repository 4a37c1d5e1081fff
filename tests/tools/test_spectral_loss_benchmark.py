"""The benchmark of the spectral loss compares two implementations of one loss."""

import importlib.util
from pathlib import Path

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'spectral_loss.py'


def test_both_forms_have_the_same_value_and_gradient():
    spec = importlib.util.spec_from_file_location('spectral_loss', TOOL)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert max(benchmark.relative_errors(batch=3, device='cpu')) < benchmark.TOLERANCE
