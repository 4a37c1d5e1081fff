"""Which checkpoint a run continues, and which it does not."""

import os
from pathlib import Path

import pytest
import torch
from mmengine import Config

from a2mim.engine.resume import adopt_seed, check_config, find_checkpoint
from toy_run import toy_config


def write_state(path: Path, iteration: int) -> None:
    state = dict(
        state_dict={'weight': torch.arange(1000.0)},
        optimizer=dict(state={}, param_groups=[]),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    )
    torch.save(state | dict(meta=dict(epoch=0, iter=iteration)), path)


def test_auto_finds_the_checkpoint_with_the_most_iterations(tmp_path: Path):
    write_state(tmp_path / 'epoch_3.pth', 30)
    write_state(tmp_path / 'iter_25.pth', 25)
    (tmp_path / 'latest.pth').symlink_to('gone.pth')
    assert find_checkpoint('auto', str(tmp_path)) == (str(tmp_path / 'epoch_3.pth'), [])


def test_auto_finds_nothing_in_a_new_folder(tmp_path: Path):
    assert find_checkpoint('auto', str(tmp_path / 'new')) == (None, [])


def test_auto_passes_a_damaged_file_over_and_says_why(tmp_path: Path):
    write_state(tmp_path / 'epoch_2.pth', 20)
    write_state(tmp_path / 'epoch_3.pth', 30)
    os.truncate(tmp_path / 'epoch_3.pth', 500)
    path, skipped = find_checkpoint('auto', str(tmp_path))
    assert path == str(tmp_path / 'epoch_2.pth')
    assert skipped == [f'skipped {tmp_path}/epoch_3.pth: it is cut off, or no file of torch.save']


def test_auto_does_not_start_anew_beside_checkpoints_that_are_all_damaged(tmp_path: Path):
    (tmp_path / 'epoch_3.pth').touch()
    with pytest.raises(ValueError, match=r'no checkpoint.*epoch_3\.pth: it is empty'):
        find_checkpoint('auto', str(tmp_path))


def test_the_best_weights_alone_are_nothing_to_resume_from(tmp_path: Path):
    write_state(tmp_path / 'best_accuracy_epoch_3.pth', 30)
    with pytest.raises(ValueError, match=r'best_accuracy_epoch_3\.pth hold no state'):
        find_checkpoint('auto', str(tmp_path))


def test_a_named_file_has_to_be_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        find_checkpoint(str(tmp_path / 'gone.pth'), str(tmp_path))


def test_a_named_file_has_to_be_whole(tmp_path: Path):
    write_state(tmp_path / 'epoch_3.pth', '30')
    with pytest.raises(ValueError, match=r"epoch_3\.pth: no run can be .*: its meta.iter is '30'"):
        find_checkpoint(str(tmp_path / 'epoch_3.pth'), str(tmp_path))


@pytest.mark.parametrize('text', ['lr = 0.1', '\xff not UTF-8'])
def test_a_script_beside_the_checkpoint_is_not_the_config_of_the_run(checkpoint, text):
    folder = Path(checkpoint).parent
    (folder / 'notes.py').write_bytes(text.encode('latin-1'))
    assert check_config(changed(checkpoint), checkpoint) == []


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """A file of the toy run, with its config, and of an epoch of three iterations."""
    meta = dict(cfg=toy_config(tmp_path).pretty_text, run=dict(epoch_length=3))
    torch.save(dict(meta=meta), tmp_path / 'epoch_1.pth')
    return str(tmp_path / 'epoch_1.pth')


def changed(checkpoint: str, **options: object) -> Config:
    return toy_config(Path(checkpoint).parent, **options)


def test_the_same_config_passes_without_a_word(checkpoint):
    assert check_config(changed(checkpoint), checkpoint) == []


@pytest.mark.parametrize(
    'options, message',
    [
        ({'optim_wrapper__optimizer__lr': 0.5}, r'optim_wrapper\.optimizer\.lr: 0\.001 then, 0\.5'),
        ({'model__backbone__drop_path_rate': 0.1}, "drop_path_rate: 'not set' then, 0.1 now"),
        ({'train_cfg__max_epochs': 3}, r'train_cfg\.max_epochs: 4 then, 3 now'),
        ({'randomness__seed': 7}, r'randomness\.seed'),
        ({'param_scheduler__0__T_max': 9}, r'param_scheduler\.0\.T_max'),
        ({'default_hooks__guard': None}, r'default_hooks\.guard'),
        ({'custom_hooks': [dict(type='EMAHook')]}, r'custom_hooks\.0\.type'),
    ],
)
def test_another_training_is_refused_with_what_differs(checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        check_config(changed(checkpoint, **options), checkpoint)


@pytest.mark.parametrize(
    'options',
    [
        {'work_dir': 'elsewhere', 'resume': True, 'load_from': 'x.pth', 'launcher': 'pytorch'},
        {'train_dataloader__num_workers': 3, 'val_dataloader__batch_size': 9},
        {'train_dataloader__persistent_workers': True, 'train_dataloader__prefetch_factor': 4},
        {'default_hooks__logger__interval': 9, 'default_hooks__checkpoint__interval': 3},
        {'default_hooks__checkpoint__out_dir': 'there', 'default_hooks__timer': None},
        {'default_hooks__loss_curve': {'type': 'LossCurveHook'}},
        {'default_hooks__reconstruction': {'type': 'ReconstructionHook', 'interval': 3}},
        {'custom_hooks': [dict(type='FeatureProbeHook', train=dict(), test=dict())]},
        {'visualizer': {'type': 'Visualizer', 'vis_backends': []}, 'log_level': 'ERROR'},
        {'log_processor': {'type': 'SpeedLogProcessor', 'window_size': 5}, 'env_cfg': {}},
        {'train_dataloader__batch_size': 2, 'optim_wrapper__accumulative_counts': 2},
        {'train_dataloader__dataset__source__root': '/moved'},
        {'model__backbone__init_cfg': {'type': 'Pretrained', 'checkpoint': 'x.pth'}},
        {'model__backbone__grad_checkpointing': True, 'train_cfg__val_interval': 2},
        {'train_dataloader__dataset__on_bad_image': 'raise'},
        {'default_hooks__bad_images': {'type': 'BadImagesHook', 'max_share': 0.2}},
        {'optim_wrapper__type': 'a2mim.OptimWrapper'},
        {'my_variable': 3},
    ],
)
def test_what_does_not_change_the_training_may_differ(checkpoint, options):
    check_config(changed(checkpoint, **options), checkpoint)


def test_what_differs_without_changing_the_training_is_listed(checkpoint):
    options = {'default_hooks__logger__interval': 9, 'work_dir': 'elsewhere'}
    (line,) = check_config(changed(checkpoint, **options), checkpoint)
    assert 'default_hooks.logger.interval: 1 then, 9 now' in line
    assert 'work_dir' not in line


def test_a_checkpoint_without_a_config_is_taken(tmp_path: Path):
    torch.save(dict(meta={}), tmp_path / 'epoch_1.pth')
    assert check_config(toy_config(tmp_path), str(tmp_path / 'epoch_1.pth')) == []


def test_many_differences_are_counted(checkpoint):
    cfg = changed(checkpoint)
    cfg.model = dict(type='A', b=1, c=2, d=3, e=4, f=5, g=6, h=7, i=8)
    with pytest.raises(ValueError, match=r'and \d+ more'):
        check_config(cfg, checkpoint)


def test_a_longer_training_has_its_schedules_follow(checkpoint):
    cfg = changed(checkpoint, train_cfg__max_epochs=9)
    (line, _) = check_config(cfg, checkpoint)
    assert 'extended from 4 to 9 epochs' in line and '--schedule follow' in line
    assert cfg.param_scheduler[0].T_max == 9


def test_an_automatic_length_stays_as_it_was_chosen_when_the_run_began(checkpoint):
    cfg = changed(checkpoint, train_cfg__max_epochs='auto')
    assert check_config(cfg, checkpoint) == []
    assert cfg.train_cfg.max_epochs == 4


def test_or_keep_their_end(checkpoint):
    cfg = changed(checkpoint, train_cfg__max_epochs=9)
    (line, _) = check_config(cfg, checkpoint, 'keep')
    assert 'stays at its last value' in line and '--schedule keep' in line
    assert (cfg.param_scheduler[0].T_max, cfg.param_scheduler[0].end) == (4, 4)


def test_a_kept_end_counts_what_the_schedule_counts(checkpoint, tmp_path):
    schedule = dict(type='WarmupCosineLR', warmup=1, eta_min=0.0, by_epoch=False)
    before = toy_config(tmp_path, param_scheduler=[schedule]).pretty_text
    torch.save(dict(meta=dict(cfg=before, run=dict(epoch_length=3))), checkpoint)
    cfg = toy_config(tmp_path, param_scheduler=[schedule], train_cfg__max_epochs=9)
    check_config(cfg, checkpoint, 'keep')
    assert cfg.param_scheduler[0].end == 12
    torch.save(dict(meta=dict(cfg=before)), checkpoint)
    cfg = toy_config(tmp_path, param_scheduler=[schedule], train_cfg__max_epochs=9)
    with pytest.raises(ValueError, match=r'--schedule keep.* set its end'):
        check_config(cfg, checkpoint, 'keep')


def test_an_extended_run_that_kept_its_schedules_goes_on_with_the_same_option(checkpoint):
    cfg = changed(checkpoint, train_cfg__max_epochs=9)
    check_config(cfg, checkpoint, 'keep')
    torch.save(dict(meta=dict(cfg=cfg.pretty_text)), checkpoint)
    assert check_config(changed(checkpoint, train_cfg__max_epochs=9), checkpoint, 'keep') == []
    with pytest.raises(ValueError, match=r'param_scheduler\.0\.end: 4 then'):
        check_config(changed(checkpoint, train_cfg__max_epochs=9), checkpoint)


def test_a_run_without_a_seed_goes_on_with_the_one_that_was_drawn(tmp_path: Path):
    torch.save(dict(meta=dict(seed=1234)), tmp_path / 'epoch_1.pth')
    cfg = Config(dict(randomness=dict(deterministic=True)))
    adopt_seed(cfg, str(tmp_path / 'epoch_1.pth'))
    assert cfg.randomness == dict(deterministic=True, seed=1234)


def test_a_seed_that_is_given_stays(tmp_path: Path):
    cfg = Config(dict(randomness=dict(seed=0)))
    adopt_seed(cfg, str(tmp_path / 'never read.pth'))
    assert cfg.randomness.seed == 0


def test_a_run_without_a_seed_is_the_same_experiment_with_the_drawn_one(checkpoint):
    check_config(changed(checkpoint, randomness={}), checkpoint)
