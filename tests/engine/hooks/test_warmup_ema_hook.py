"""WarmupEMAHook in the real Runner: lengths from the run, and whose weights are evaluated."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from torch import Tensor

from a2mim.engine.averaging import WarmupEMAHook
from a2mim.engine.runner import ToolRunner
from toy_run import toy_config, write_images

pytestmark = pytest.mark.integration

MU, WARMUP = 0.99, 2


@pytest.fixture
def build(tmp_path) -> Callable[..., Runner]:
    """A function from changes of the config to a run of four epochs of three iterations."""
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 1)
    number = itertools.count()

    def build(**changes: object) -> Runner:
        hook = dict(type='WarmupEMAHook', momentum=1 - MU, warmup_epochs=WARMUP)
        cfg = toy_config(
            tmp_path / 'data',
            **{
                'custom_hooks': [hook],
                'param_scheduler': [dict(type='OverlapCosineLR', eta_min=0.0, end=4)],
                'work_dir': str(tmp_path / 'run'),
                'experiment_name': f'{tmp_path.name}-{next(number)}',
                **changes,
            },
        )
        return ToolRunner.from_cfg(cfg)

    return build


def hook_of(runner: Runner) -> WarmupEMAHook:
    return next(hook for hook in runner.hooks if isinstance(hook, WarmupEMAHook))


def head_of(model: torch.nn.Module) -> Tensor:
    return model.backbone.model.head.fc.bias.detach().clone()


def record_heads(runner: Runner) -> list[Tensor]:
    """The bias before training, and after each of its iterations."""
    heads, run_iter = [head_of(runner.model)], runner.train_loop.run_iter

    def recorded(*args: object) -> None:
        run_iter(*args)
        heads.append(head_of(runner.model))

    runner.train_loop.run_iter = recorded
    return heads


@pytest.mark.parametrize('accumulation', [1, 2])
def test_the_average_is_the_published_one(build, accumulation):
    runner = build(optim_wrapper__accumulative_counts=accumulation)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    heads = record_heads(runner)
    runner.train()
    average, warmup = heads[2 - accumulation].double(), WARMUP * 3
    for iteration, head in enumerate(heads[1:]):
        if iteration and (iteration + 1) % accumulation == 0:
            kept = MU * (1 - (1 - min(iteration, warmup) / warmup) * (1 - 0.9))
            average = kept * average + (1 - kept) * head.double()
    torch.testing.assert_close(head_of(hook_of(runner).ema_model.module).double(), average)
    assert not torch.equal(heads[-1], heads[-2])


def test_checkpoints_and_validation_have_the_average(build, tmp_path):
    runner = build(train_cfg__val_interval=4)
    validated = []
    run = runner.val_loop.run
    runner._val_loop.run = lambda: validated.append(head_of(runner.model)) or run()
    before_val_epoch = hook_of(runner).before_val_epoch
    hook_of(runner).before_val_epoch = lambda runner: (
        before_val_epoch(runner) or validated.append(head_of(runner.model))
    )
    runner.train()
    average = head_of(hook_of(runner).ema_model.module)
    assert torch.equal(validated[-1], average)
    saved = torch.load(tmp_path / 'run/latest.pth', weights_only=False)
    name = 'backbone.model.head.fc.bias'
    assert torch.equal(saved['state_dict'][name], average)
    assert torch.equal(saved['ema_state_dict'][f'module.{name}'], head_of(runner.model))


@pytest.mark.integration
def test_a_resumed_run_ends_with_the_same_average(build, tmp_path):
    whole = build()
    whole.train()
    expected = head_of(hook_of(whole).ema_model.module)
    first = build(work_dir=str(tmp_path / 'first'), train_cfg__max_epochs=2)
    first.train()
    second = build(work_dir=str(tmp_path / 'first'), resume=True)
    second.train()
    assert hook_of(second).ema_model.steps == 12
    torch.testing.assert_close(head_of(hook_of(second).ema_model.module), expected)


def test_a_test_runs_without_a_training_loop(build, tmp_path: Path):
    build(train_cfg__max_epochs=1).train()
    names = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
    cfg = toy_config(tmp_path / 'data')
    runner = build(
        **dict.fromkeys(names),
        load_from=str(tmp_path / 'run/epoch_1.pth'),
        test_dataloader=cfg.val_dataloader,
        test_evaluator=cfg.val_evaluator,
        test_cfg=dict(),
    )
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)
    runner.test()
    assert torch.equal(head_of(runner.model), saved['state_dict']['backbone.model.head.fc.bias'])


def test_a_warm_up_of_no_epochs_is_refused():
    with pytest.raises(ValueError, match='warmup_epochs=0'):
        WarmupEMAHook(momentum=1e-4, warmup_epochs=0)
