"""A training imports what it uses: no transformers, matplotlib or scikit-learn before its step."""

import json
import os
import subprocess
import sys

import mmengine.visualization
import numpy as np
import pytest
import torch

from a2mim.engine.start_up import LEFT_OUT, lean_imports
from a2mim.registry import VISUALIZERS
from toy_run import ROOT, toy_config, write_images

UNUSED = ('transformers', 'torch.distributed.optim', 'matplotlib', 'sklearn', 'skimage', 'pandas')
# The tool itself, with one look at the modules after its first step.
DRIVER = """
import json, runpy, sys
import a2mim.engine.start_up

def look(*words):
    print('MODULES', json.dumps(sorted(sys.modules)))

tool, *sys.argv[1:] = sys.argv[1:]
class Finder:
    def find_spec(self, name, path=None, target=None):
        launch = sys.modules.get('a2mim.engine.launch')
        if hasattr(launch, 'build_train_runner'):  # it is whole by now
            known = launch.FirstIteration.after_train_iter
            def after(self, *words, **options):
                known(self, *words, **options)
                look()
            launch.FirstIteration.after_train_iter = after
            sys.meta_path.remove(self)
sys.meta_path.insert(0, Finder())
runpy.run_path(tool, run_name='__main__')
"""


@pytest.mark.integration
def test_a_first_step_has_imported_nothing_that_it_does_not_use(tmp_path):
    write_images(tmp_path / 'train', 4)
    write_images(tmp_path / 'val', 2)
    cfg = toy_config(tmp_path, train_cfg__max_epochs=1)
    cfg.param_scheduler = []
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.dump(tmp_path / 'toy.py')
    tool, words = str(ROOT / 'tools/train.py'), ['toy.py', '--work-dir', 'run']
    done = subprocess.run(
        [sys.executable, '-c', DRIVER, tool, *words],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    looks = [line[8:] for line in done.stdout.splitlines() if line.startswith('MODULES ')]
    modules = json.loads(looks[0])
    assert {'torch', 'timm'} <= {*modules}
    assert [name for name in UNUSED if name in modules] == []


@pytest.mark.parametrize('name', LEFT_OUT)
def test_a_package_that_is_left_out_is_there_again_after_the_block(name, monkeypatch):
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError), lean_imports():
        __import__(name)
    assert name not in sys.modules


def test_a_package_that_is_loaded_stays():
    module = sys.modules.setdefault('torch.distributed.optim', torch.distributed)
    with lean_imports():
        assert sys.modules['torch.distributed.optim'] is module


def test_a_visualizer_draws_and_is_found_as_mmengine_s_is(tmp_path):
    backends = [dict(type='LocalVisBackend')]
    options = dict(name='drawn', vis_backends=backends, save_dir=str(tmp_path))
    visualizer = VISUALIZERS.build(dict(type='a2mim.Visualizer', **options))
    assert mmengine.visualization.Visualizer.get_current_instance() is visualizer
    image = np.full((20, 30, 3), 200, np.uint8)
    usual = mmengine.visualization.Visualizer(image=image)
    visualizer.set_image(image)
    for each in (usual, visualizer):
        each.draw_bboxes(np.array([[2, 3, 15, 12]]), edge_colors='r')
    assert np.array_equal(visualizer.get_image(), usual.get_image())
    assert visualizer.get_image().shape == image.shape and (visualizer.get_image() != image).any()
    assert visualizer.dpi == usual.dpi


@pytest.mark.integration
def test_the_optimisers_of_what_is_left_out_are_built_by_name(tmp_path):
    code = """
import torch
from a2mim.engine.start_up import lean_imports
with lean_imports():
    import mmengine.optim
from torch import nn
from a2mim.registry import OPTIMIZERS
layer = nn.Linear(2, 2)
built = OPTIMIZERS.build(dict(type='Adafactor', params=layer.parameters(), lr=None))
import transformers
assert type(built) is transformers.Adafactor
torch.distributed.init_process_group('gloo', init_method='file://STORE', rank=0, world_size=1)
options = dict(type='ZeroRedundancyOptimizer', optimizer_type='AdamW', lr=0.5)
built = OPTIMIZERS.build(dict(options, params=layer.parameters()))
from torch.distributed.optim import ZeroRedundancyOptimizer
assert isinstance(built, ZeroRedundancyOptimizer) and type(built.optim) is torch.optim.AdamW
layer(torch.ones(1, 2)).sum().backward()
built.step()
assert built.state_dict()['param_groups'][0]['lr'] == 0.5
"""
    code = code.replace('STORE', str(tmp_path / 'store'))
    subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
