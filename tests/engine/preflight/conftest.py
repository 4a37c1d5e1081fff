"""Runs of seconds that are about to start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from a2mim.engine.runner import ToolRunner
from toy_run import toy_config, write_images


@pytest.fixture(scope='session')
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', 4)
    write_images(root / 'val', 2)
    return root


@pytest.fixture
def build_runner(images, tmp_path) -> Callable[..., ToolRunner]:
    """A function from changes of the toy config to its runner, built up to the first iteration."""

    def build(**changes: object) -> ToolRunner:
        cfg = toy_config(images, work_dir=str(tmp_path), **changes)
        cfg.experiment_name = tmp_path.name
        runner = ToolRunner.from_cfg(cfg)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner._val_loop = runner.build_val_loop(runner._val_loop)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.call_hook('before_run')
        return runner

    return build
