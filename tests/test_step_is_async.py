"""Between two log lines nothing makes the processor wait: loader's batch to updated weights.

The shipped recipes run in the real Runner, with smaller trunks.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine import Config
from torch.utils.data import DataLoader

from a2mim.engine.guard import MAX_FILES, FiniteGuardHook, HostCopy
from a2mim.engine.runner import ToolRunner
from faults import FaultHook
from host_sync import HostSyncError, no_host_sync
from recipes import read

pytestmark = pytest.mark.integration

PRETRAIN = Path(__file__).parents[1] / 'configs/openmixup/pretrain'
R50 = 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300.py'
VIT = 'a2mim/imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800.py'
CONVNEXT = 'a2mim/imagenet/convnext_s_l3_sz224_init_8xb256_cos_ep300.py'
SIMMIM = 'simmim/imagenet/r50_sz224_8xb256_fp16_ep300.py'
TINY = {
    'resnet50': dict(model_name='resnet10t'),
    'resnet101': dict(model_name='resnet10t'),
    'convnext_small': dict(model_name='convnext_atto'),
    'convnext_tiny': dict(model_name='convnext_atto'),
    'beit_base_patch16_224': dict(img_size=64, embed_dim=32, depth=2, num_heads=2),
}


@pytest.fixture
def build_runner(tmp_path) -> Callable[..., ToolRunner]:
    """A function from a recipe, and a model base in place of its own, to a run of four steps."""

    def build(
        recipe: str, model_base: str | None = None, interval: int = 50, **optimizer: object
    ) -> ToolRunner:
        cfg = Config.fromfile(PRETRAIN / recipe)
        model = Config.fromfile(PRETRAIN / model_base).model if model_base else cfg.model
        model.backbone.update(TINY[model.backbone.model_name])
        cfg.optim_wrapper.optimizer.update(optimizer)
        image = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
        mask = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8)
        return ToolRunner(
            model=model.to_dict(),
            work_dir=str(tmp_path),
            train_dataloader=DataLoader([dict(image=i, mask=mask) for i in image], batch_size=2),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper={**cfg.optim_wrapper.to_dict(), 'clip_grad': dict(max_norm=5.0)},
            param_scheduler={**cfg.param_scheduler.to_dict(), 'warmup': 0},
            default_hooks=dict(logger=dict(type='LoggerHook', interval=interval), checkpoint=None),
            log_processor=cfg.log_processor.to_dict(),
            default_scope='a2mim',
            experiment_name=tmp_path.name,
            cfg=Config(),
        )

    return build


@pytest.fixture
def build_finetuning(tmp_path) -> Callable[[str], ToolRunner]:
    """A function from a fine-tuning recipe to a run of four steps, with boxes to erase."""

    def build(stem: str) -> ToolRunner:
        cfg = read(f'openmixup/finetune/imagenet/{stem}')
        cfg.model.backbone.update(TINY[cfg.model.backbone.model_name])
        image = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
        box = torch.tensor([8, 8, 16, 32])
        samples = [dict(image=image[i], label=i, erase=box * (i % 2)) for i in range(8)]
        return ToolRunner(
            model=cfg.model.to_dict(),
            work_dir=str(tmp_path),
            train_dataloader=DataLoader(samples, batch_size=2),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=cfg.optim_wrapper.to_dict(),
            param_scheduler={**cfg.param_scheduler.to_dict(), 'warmup': 0},
            default_hooks=dict(logger=dict(type='LoggerHook', interval=50), checkpoint=None),
            log_processor=cfg.log_processor.to_dict(),
            default_scope='a2mim',
            experiment_name=tmp_path.name,
            cfg=Config(),
        )

    return build


def train_without_waiting(runner: ToolRunner) -> None:
    run_iter = runner.train_loop.run_iter

    def guarded(*args: object) -> None:
        with no_host_sync():
            run_iter(*args)

    runner.train_loop.run_iter = guarded
    runner.train()


@pytest.mark.parametrize(
    'recipe, model_base',
    [
        (R50, None),
        (R50, '_base_/models/a2mim/r101.py'),
        (VIT, None),
        (CONVNEXT, None),
        (SIMMIM, None),
        (VIT, '../../features/data2vec_vit-base-p16_8xb256-cos-800e_in1k.py'),
    ],
    ids=['r50', 'r101', 'vit_base', 'convnext_s', 'simmim_r50', 'data2vec_vit_base'],
)
def test_a_step_never_waits_for_the_device(build_runner, recipe, model_base):
    runner = build_runner(recipe, model_base)
    before = runner.model.neck.projection.weight.detach().clone()
    train_without_waiting(runner)
    assert not torch.equal(runner.model.neck.projection.weight, before)


@pytest.mark.parametrize(
    'stem',
    [
        'r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300',  # LAMB, which clips by itself
        'vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100',
        'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400',
    ],
)
def test_a_step_of_fine_tuning_erases_mixes_and_never_waits(build_finetuning, stem, monkeypatch):
    # LAMB keeps its count of steps on the CPU, wherever the weights are: reading it costs nothing.
    monkeypatch.setattr('timm.optim.lamb._get_value', lambda step: float(step.numpy()))
    runner = build_finetuning(stem)
    head = runner.model.backbone.model.get_classifier()
    before = head.weight.detach().clone()
    train_without_waiting(runner)
    assert not torch.equal(head.weight, before)


def test_the_guard_reads_what_an_earlier_step_has_found(build_runner, monkeypatch):
    # As on a GPU, where the fused form is the default.
    runner = build_runner(R50, fused=True)
    ages, start, read = [], HostCopy.__init__, HostCopy.read

    def started(copy: HostCopy, values: torch.Tensor) -> None:
        copy.iteration = runner.iter
        start(copy, values)

    def aged(copy: HostCopy) -> list[float]:
        ages.append(runner.iter - copy.iteration)
        return read(copy)

    monkeypatch.setattr(HostCopy, '__init__', started)
    monkeypatch.setattr(HostCopy, 'read', aged)
    train_without_waiting(runner)
    assert ages == [1] * 4


@pytest.mark.parametrize('bad', [2, 3])
def test_a_bad_step_waits_for_nothing_either(build_runner, bad):
    runner = build_runner(R50, fused=True)
    runner.register_hook(FaultHook([bad], where='gradient'))
    monitored = runner.model.neck.projection.weight
    before = monitored.detach().clone()
    # What is kept of a failed step is copied when it is, and is no part of a healthy one.
    next(h for h in runner.hooks if isinstance(h, FiniteGuardHook))._written = MAX_FILES
    train_without_waiting(runner)
    assert monitored.isfinite().all()
    assert not torch.equal(monitored, before)


def test_a_value_that_is_read_in_the_step_is_noticed(build_runner):
    runner = build_runner(R50)
    runner.model.backbone.register_forward_hook(lambda *args: float(args[2].detach().sum()))
    with pytest.raises(HostSyncError, match='_local_scalar_dense'):
        train_without_waiting(runner)


def test_values_are_fetched_for_a_log_line_and_none_is_lost(build_runner):
    runner = build_runner(R50, interval=3)
    names = ('loss', 'loss_spatial', 'loss_spectral', 'grad_norm')
    fetched = []

    def count(*_: object) -> None:
        scalars = runner.message_hub.log_scalars
        histories = [scalars.get(f'train/{name}') for name in names]
        fetched.append([len(history.data[0]) if history else 0 for history in histories])

    run_iter = runner.train_loop.run_iter
    runner.train_loop.run_iter = lambda *args: count(run_iter(*args))
    runner.train()
    assert fetched == [[0] * 4, [0] * 4, [3] * 4, [4] * 4]
