"""Back ends of one option: a fake package sees the run once, and its losses."""

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
from mmengine import Config, visualization

from a2mim.engine.loggers import BACKENDS, add_loggers, check_loggers
from toy_run import load_tool, toy_config, write_images


@pytest.mark.parametrize('names', [['wandb'], ['tensorboard', 'mlflow', 'wandb', 'wandb']])
def test_back_ends_are_added_once_and_the_local_one_stays(names):
    cfg = Config(dict())
    for _ in range(2):
        add_loggers(cfg, names)
    kinds = [backend['type'] for backend in cfg.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', *(BACKENDS[name][0] for name in dict.fromkeys(names))]


@pytest.mark.parametrize('name', [name for name in BACKENDS if name != 'tensorboard'])
def test_a_back_end_needs_its_packages_and_no_other(name, monkeypatch, tmp_path):
    kind, packages, arguments = BACKENDS[name]
    cfg = Config(dict(visualizer=dict(vis_backends=[dict(type=kind)])))
    for package in packages.split():
        monkeypatch.delitem(sys.modules, package, raising=False)
        with pytest.raises(ImportError, match=f'{kind} needs the package {package}: pip install'):
            check_loggers(cfg)
        module = MagicMock(__spec__=SimpleNamespace(name=package), __version__='9')
        monkeypatch.setitem(sys.modules, package, module)
    check_loggers(cfg)
    backend = getattr(visualization, kind)(save_dir=str(tmp_path), **arguments)
    backend.add_config(Config(dict(seed=1)))
    backend.add_scalar('loss', 0.625, step=3)
    assert '0.625' in str(sys.modules[packages.split()[0]].mock_calls)


@pytest.fixture
def wandb(monkeypatch) -> SimpleNamespace:
    """What a module ``wandb`` has been told."""
    told = SimpleNamespace(starts=[], values=[])
    module = ModuleType('wandb')
    module.__spec__ = SimpleNamespace(name='wandb')
    module.init = lambda **kwargs: told.starts.append(kwargs)
    module.log = lambda values, **kwargs: told.values.append(values)
    module.config = SimpleNamespace(update=lambda *args, **kwargs: None)
    module.run = SimpleNamespace(log_code=lambda **kwargs: None)
    module.define_metric = lambda *args, **kwargs: None
    module.join = lambda: None
    monkeypatch.setitem(sys.modules, 'wandb', module)
    return told


@pytest.mark.integration
def test_a_run_is_started_once_and_its_losses_are_logged(tmp_path, wandb):
    write_images(tmp_path / 'data/train', 2)
    write_images(tmp_path / 'data/val', 1)
    toy_config(tmp_path / 'data', train_cfg__max_epochs=1).dump(tmp_path / 'toy.py')
    load_tool('train').main(
        [str(tmp_path / 'toy.py'), '--work-dir', str(tmp_path / 'run'), '--log', 'wandb']
    )
    assert [start['project'] for start in wandb.starts] == ['a2mim']
    assert len([values for values in wandb.values if 'loss' in values]) == 2  # two steps
    assert any('accuracy/top1' in values for values in wandb.values)
    assert next((tmp_path / 'run').glob('*/vis_data/scalars.json')).is_file()
