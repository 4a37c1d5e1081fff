"""``FeatureProbeHook`` in pre-training runs of seconds, on a network with batch norm."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.evaluation import FeatureProbeHook
from a2mim.registry import DATASETS, HOOKS
from toy_run import read_scalars, toy_config, write_images


def labelled(root: Path, **source: object) -> dict:
    """Config of a data set of labelled images."""
    kind = dict(type='ImageFolder', root=str(root), with_labels=True)
    return dict(type='ImageDataset', source={**kind, **source}, pipeline=[])


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', 4)
    write_images(root / 'val', 2)
    return root


def probe(images: Path, **changes: object) -> dict:
    """The hook as a config gives it."""
    hook = dict(type='FeatureProbeHook', interval=2, neighbours=3, linear=True, batch_size=5)
    splits = dict(train=labelled(images / 'train'), test=labelled(images / 'val'))
    return {**hook, **splits, **changes}


def pretraining(work_dir: Path, images: Path, hooks: list, **changes: object) -> Runner:
    """A runner of five epochs; drop path draws from torch's generator in every step."""
    cfg = toy_config(images, train_cfg__max_epochs=5)
    cfg.model = dict(
        type='A2MIM',
        data_preprocessor=cfg.model.data_preprocessor,
        backbone=dict(
            type='TimmBackbone', model_name='test_resnet', mask_after='layer1', drop_path_rate=0.5
        ),
        neck=dict(type='PixelShuffleDecoder'),
        head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
    )
    mask = dict(type='BlockMask', image_size=32, block_size=8, ratio=0.5)
    cfg.train_dataloader.dataset.update(type='MaskedImageDataset', mask=mask)
    for name in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg.pop(name)
    cfg.default_hooks.checkpoint = None
    cfg.update(work_dir=str(work_dir), custom_hooks=hooks, **changes)
    cfg.experiment_name = f'{work_dir.parent.name}-{work_dir.name}'
    return Runner.from_cfg(cfg)


def measured(work_dir: Path) -> list[dict]:
    return [line for line in read_scalars(work_dir) if 'probe/knn_top1' in line]


@pytest.fixture(scope='module')
def trained(images, tmp_path_factory) -> Runner:
    """A finished run, measured with a linear probe."""
    runner = pretraining(tmp_path_factory.mktemp('probe'), images, [probe(images)])
    runner.train()
    return runner


def test_it_measures_before_every_second_and_after_the_last_epoch(trained):
    lines = measured(Path(trained.work_dir))
    assert [line['step'] for line in lines] == [0, 2, 4, 5]
    assert all(0 <= line['probe/linear_top1'] <= 100 for line in lines)


def test_the_log_tells_the_accuracies(trained):
    last = measured(Path(trained.work_dir))[-1]
    text = next(Path(trained.work_dir).rglob('*.log')).read_text()
    values = '  '.join(f'{name}: {last[name]:.2f}' for name in last if name.startswith('probe'))
    assert f'Epoch(probe) [5]  {values}' in text


def test_colours_are_told_apart_by_a_linear_probe(trained):
    assert measured(Path(trained.work_dir))[-1]['probe/linear_top1'] == 100


def test_training_is_the_same_without_it(trained, images, tmp_path):
    plain = pretraining(tmp_path / 'plain', images, [])
    plain.train()
    losses = [
        [line['loss'] for line in read_scalars(Path(runner.work_dir)) if 'loss' in line]
        for runner in (trained, plain)
    ]
    assert len(losses[0]) == 15
    assert losses[0] == losses[1]
    for key, tensor in plain.model.state_dict().items():
        assert torch.equal(trained.model.state_dict()[key], tensor), key


def test_random_states_mode_and_batch_statistics_stay_as_they_are(trained):
    hook = next(hook for hook in trained.hooks if isinstance(hook, FeatureProbeHook))
    trained.model.train()
    before = {key: tensor.clone() for key, tensor in trained.model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    python_state = random.getstate()
    hook._measure(trained, 9)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert random.getstate() == python_state
    assert all(module.training for module in trained.model.modules())
    for key, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_a_compiled_model_is_not_compiled_for_it(trained):
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> object:
        compiled.append(graph)
        return graph.forward

    hook = next(hook for hook in trained.hooks if isinstance(hook, FeatureProbeHook))
    expected = hook._eager(trained.model)
    trained.model.compile(backend=backend)
    assert hook._eager(trained.model) == expected
    assert not compiled
    trained.model._compiled_call_impl = None


def test_without_a_linear_probe_there_is_only_the_vote(images):
    assert [*FeatureProbeHook(1, {}, {}).measures] == ['probe/knn_top1']


def test_a_resumed_run_is_not_measured_as_if_it_began(images, tmp_path):
    runner = pretraining(tmp_path / 'resumed', images, [probe(images)])
    runner.train_loop._epoch = 4
    runner.train_loop._iter = 4 * len(runner.train_dataloader)
    runner.train()
    assert [line['step'] for line in measured(tmp_path / 'resumed')] == [5]


@HOOKS.register_module()
class Diverge(Hook):
    """Fill the trunk with what a diverged run leaves."""

    def before_train(self, runner: Runner) -> None:
        torch.nn.init.constant_(runner.model.backbone.model.conv1[0].weight, torch.nan)


def test_a_run_that_has_diverged_goes_on_without_a_number(images, tmp_path):
    hooks = [dict(type='Diverge'), probe(images, linear=False)]
    runner = pretraining(tmp_path / 'diverged', images, hooks)
    runner.train()
    assert all(np.isnan(line['probe/knn_top1']) for line in measured(tmp_path / 'diverged'))
    assert runner.epoch == 5


@pytest.mark.parametrize('name', ['interval', 'neighbours', 'batch_size'])
def test_a_number_below_one_is_refused(images, name):
    options = probe(images, **{name: 0})
    options.pop('type')
    with pytest.raises(ValueError, match=f'{name}=0.*at least 1'):
        FeatureProbeHook(**options)


@DATASETS.register_module()
class WithoutLabels(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict:
        return dict(image=torch.zeros(3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(neighbours=13), r'neighbours=13 is more than the 12 images of train'),
        (dict(test=dict(type='WithoutLabels')), 'images of test have no labels'),
        (dict(train=dict(type='WithoutLabels')), 'images of train have no labels'),
    ],
)
def test_unfit_images_are_refused_before_training(images, tmp_path, changes, message):
    runner = pretraining(tmp_path / 'refused', images, [probe(images, **changes)])
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert not read_scalars(tmp_path / 'refused')
