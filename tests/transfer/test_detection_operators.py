"""A detector with operators of torchvision is the one with compiled operators."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shrunk_detector import CONFIGS, ROOT, options

CONFIG = CONFIGS / 'mask-rcnn_r50_fpn_ms-1x_coco.py'
# Ends with 0 where mmcv has compiled operators.
IS_COMPILED = 'import importlib.util as u, sys; sys.exit(u.find_spec("mmcv._ext") is None)'
# The same run, in a process that finds no compiled operators.
HIDDEN = """
import importlib.machinery as machinery, runpy
find = machinery.PathFinder.find_spec
def find_other(name, path=None, target=None):
    return None if name == 'mmcv._ext' else find(name, path, target)
machinery.PathFinder.find_spec = find_other
runpy.run_module('a2mim.transfer.train', run_name='__main__')
"""
pytestmark = pytest.mark.transfer


def logged(program: list[str], work_dir: Path, *line: str) -> list[dict]:
    """What a run logged, without what depends on the clock."""
    command = [sys.executable, *program, *line, '--work-dir', str(work_dir)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=300)
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    entries = map(json.loads, path.read_text(encoding='utf-8').splitlines())
    clock = {'time', 'data_time'}
    return [{k: v for k, v in entry.items() if k not in clock} for entry in entries]


def test_losses_and_average_precision_are_those_of_compiled_operators(shapes, trunk, tmp_path):
    # In a process of its own: in this one the stand-in may be there already.
    if subprocess.run([sys.executable, '-c', IS_COMPILED], check=False).returncode:
        pytest.skip('compiled operators of mmcv are not installed: nothing to compare with')
    line = [str(CONFIG), str(trunk(CONFIG)), *options(CONFIG, shapes, 96)]
    compiled = logged(['-m', 'a2mim.transfer.train'], tmp_path / 'compiled', *line)
    ours = logged(['-c', HIDDEN], tmp_path / 'torchvision', *line)
    assert len(ours) == len(compiled) == 8  # six steps and two validations
    for one, other in zip(ours, compiled, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
