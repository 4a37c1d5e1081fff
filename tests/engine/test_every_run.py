"""The hooks of every run stand in the config, whoever starts it."""

from pathlib import Path

import pytest
from mmengine import Config
from mmengine.runner import Runner

from a2mim.engine.guard import FiniteGuardHook
from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.runner import ToolRunner, complete_hooks, hooks_of_every_run
from exact_run import EPOCH, SaveAt, Witness, config, differing, run, state
from toy_run import ROOT, toy_config, write_images

ONE_OF_EACH_BASE = (
    'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300',
    'openmixup/finetune/imagenet/r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300',
    'quickstart/a2mim_resnet18_1xb64-cos-15e_photos-64px',
)


@pytest.mark.parametrize('name', ONE_OF_EACH_BASE)
def test_a_shipped_config_shows_them(name):
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    assert hooks_of_every_run().items() <= cfg.default_hooks.to_dict().items()


def test_those_that_a_config_lacks_are_added_in_front():
    hooks = complete_hooks(dict(logger=dict(type='LoggerHook'), guard=dict(type='Mine')))
    assert hooks == {**hooks_of_every_run(), 'guard': dict(type='Mine'), **hooks}
    assert [*hooks][-1] == 'logger'


def test_options_without_a_type_are_added_to_the_hook_of_their_key():
    hooks = complete_hooks(dict(bad_images=dict(patience=7)))
    assert hooks['bad_images'] == dict(type='a2mim.BadImagesHook', patience=7)


@pytest.mark.parametrize(
    'custom', [dict(type='FiniteGuardHook', stop_after=3), FiniteGuardHook(stop_after=3)]
)
def test_one_among_the_custom_hooks_takes_the_place_of_its_key(custom):
    assert 'guard' not in complete_hooks({}, [custom])
    assert 'guard' not in complete_hooks({'mine': custom})


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('every')
    write_images(root / 'train', 6)
    write_images(root / 'val', 2)
    return root


def test_a_runner_dumps_what_it_added_and_none_switches_off(data, tmp_path):
    keys = ('bad_images', 'timer', 'checkpoint', 'loss_curve')
    off = {f'default_hooks__{key}': None for key in keys}
    cfg = toy_config(data, **off, work_dir=str(tmp_path / 'run'))
    cfg.dump(tmp_path / 'toy.py')
    runner = ToolRunner.from_cfg(Config.fromfile(tmp_path / 'toy.py'))
    dumped = Config.fromfile(tmp_path / 'run/toy.py').default_hooks
    assert dumped.guard == dict(type='a2mim.FiniteGuardHook') and dumped.bad_images is None
    names = [type(hook).__name__ for hook in runner.hooks]
    assert names.count('FiniteGuardHook') == 1
    absent = {'BadImagesHook', 'IterTimerHook', 'CheckpointHook', 'LossCurveHook', 'NoneType'}
    assert absent.isdisjoint(names)


def test_the_runner_of_mmengine_trains_and_resumes_the_same_bit_by_bit(data, tmp_path):
    whole = config(data, tmp_path / 'whole', 'epochs', 'plain')
    expected, witness = run(whole, SaveAt((EPOCH + 3,)))
    file = str(tmp_path / 'whole' / f'iter_{EPOCH + 3}.pth')
    cfg = config(data, tmp_path / 'rest', 'epochs', 'plain', resume=True, load_from=file)
    cfg.default_hooks = complete_hooks(cfg.default_hooks)
    silence_harmless_warnings()
    runner, seen = Runner.from_cfg(cfg), Witness()
    runner.register_hook(seen)
    runner.train()
    rest = {step: values for step, values in witness.steps.items() if step >= EPOCH + 3}
    assert differing(rest, seen.steps) == []
    assert differing(state(expected), state(runner)) == []
