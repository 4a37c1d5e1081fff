"""tools/replay_step.py repeats a step and finds the first non-finite value."""

import re
from pathlib import Path

import pytest
import torch

from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.replay import read_failed_step, replay
from a2mim.engine.runner import ToolRunner
from faults import FaultHook
from toy_run import load_tool, read_scalars, toy_config, write_images

pytestmark = pytest.mark.integration


@pytest.fixture
def run(tmp_path):
    """A function from iterations that fail to the work dir of a run of three, with drop path."""
    write_images(tmp_path / 'data/train', 4)
    silence_harmless_warnings()  # a first update that is skipped

    def run(name: str, *iterations: int, where: str = 'loss', **changes: object) -> Path:
        cfg = toy_config(
            tmp_path / 'data',
            train_cfg__max_epochs=1,
            work_dir=str(tmp_path / name),
            experiment_name=f'{tmp_path.name}-{name}',
            model__backbone__drop_path_rate=0.5,
            default_hooks__checkpoint=None,
            log_processor=dict(window_size=1),
            **changes,
        )
        for part in ('val_dataloader', 'val_evaluator', 'val_cfg'):
            cfg.pop(part)
        runner = ToolRunner.from_cfg(cfg)
        runner.register_hook(FaultHook(iterations, where))
        runner.train()
        return tmp_path / name

    return run


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'AmpOptimWrapper'])
def test_a_replayed_step_computes_what_the_run_would_have_bit_for_bit(run, wrapper):
    losses = [line['loss'] for line in read_scalars(run('whole', optim_wrapper__type=wrapper))]
    failed = run('failed', 2, optim_wrapper__type=wrapper) / 'failed_steps/iter_3_rank_0.pth'
    found = replay(read_failed_step(failed))
    assert [step['loss'] for step in found.losses] == losses[2:]
    assert not found.failed


def test_the_tool_names_the_first_module_and_the_gradients(run, capsys):
    # An image of a spread near 0 is infinite once it is normalised.
    changes = dict(model__data_preprocessor__std=[1e-45] * 3)
    path = run('spread', **changes) / 'failed_steps/iter_1_rank_0.pth'
    assert load_tool('replay_step').main([str(path)]) == 0
    said = capsys.readouterr().out
    assert 'iteration 1, process 0 of 1, seed 0' in said
    assert 'first module with an output that is not finite: data_preprocessor' in said
    assert re.search(r'not finite: (\d+) of \1: backbone.model.stem.0.weight, ', said)
    assert said.endswith('the failure is reproduced\n')


def test_a_step_that_is_finite_here_ends_with_another_code(run, capsys):
    path = run('fault', 0, where='gradient') / 'failed_steps/iter_1_rank_0.pth'
    assert load_tool('replay_step').main([str(path)]) == 1
    said = capsys.readouterr().out
    assert 'gradient norm' in said and '(in the run: nan)' in said
    assert said.endswith('this step is finite here\n')


def test_passes_of_an_accumulated_update_are_computed_together(run):
    path = run('two', 1, optim_wrapper__accumulative_counts=2) / 'failed_steps/iter_2_rank_0.pth'
    found = replay(read_failed_step(path))
    assert len(found.losses) == 2


def test_another_file_is_refused(tmp_path, capsys):
    torch.save({'state_dict': {}}, tmp_path / 'a.pth')
    with pytest.raises(SystemExit) as exit_:
        load_tool('replay_step').main([str(tmp_path / 'a.pth')])
    assert exit_.value.code == 2
    assert 'a.pth is not a failed step' in capsys.readouterr().err
