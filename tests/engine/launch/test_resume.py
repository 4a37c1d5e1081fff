"""Which checkpoint a run continues, and which it does not."""

from pathlib import Path

import pytest
from mmengine import Config

from a2mim.engine.launch.resume import check_same_experiment, find_checkpoint
from toy_run import toy_config


def test_auto_finds_what_latest_names(tmp_path: Path):
    (tmp_path / 'epoch_3.pth').touch()
    (tmp_path / 'latest.pth').symlink_to('epoch_3.pth')
    assert find_checkpoint('auto', str(tmp_path)) == str(tmp_path / 'epoch_3.pth')


def test_auto_finds_nothing_in_a_new_folder(tmp_path: Path):
    assert find_checkpoint('auto', str(tmp_path / 'new')) is None


def test_auto_asks_where_no_checkpoint_is_marked(tmp_path: Path):
    (tmp_path / 'epoch_3.pth').touch()
    with pytest.raises(ValueError, match=r'--resume .*epoch_3\.pth'):
        find_checkpoint('auto', str(tmp_path))


def test_a_named_file_has_to_be_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        find_checkpoint(str(tmp_path / 'gone.pth'), str(tmp_path))


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    toy_config(tmp_path).dump(tmp_path / 'toy.py')
    return str(tmp_path / 'epoch_1.pth')


def changed(checkpoint: str, **options: object) -> Config:
    return toy_config(Path(checkpoint).parent, **options)


def test_the_same_config_passes(checkpoint):
    check_same_experiment(changed(checkpoint), checkpoint)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'optim_wrapper__optimizer__lr': 0.5}, r'optim_wrapper\.optimizer\.lr: 0\.001 then, 0\.5'),
        ({'model__backbone__drop_path_rate': 0.1}, "drop_path_rate: 'not set' then, 0.1 now"),
        ({'train_cfg__max_epochs': 9}, r'train_cfg\.max_epochs'),
        ({'randomness__seed': 7}, r'randomness\.seed'),
    ],
)
def test_another_experiment_is_refused_with_what_differs(checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        check_same_experiment(changed(checkpoint, **options), checkpoint)


@pytest.mark.parametrize(
    'options',
    [
        {'work_dir': 'elsewhere', 'resume': True, 'load_from': 'x.pth', 'launcher': 'pytorch'},
        {'train_dataloader__num_workers': 3, 'val_dataloader__batch_size': 9},
        {'default_hooks__logger__interval': 9, 'default_hooks__checkpoint__interval': 3},
        {'train_dataloader__batch_size': 2, 'optim_wrapper__accumulative_counts': 2},
        {'train_dataloader__dataset__source__root': '/moved'},
        {'model__backbone__init_cfg': {'type': 'Pretrained', 'checkpoint': 'x.pth'}},
        {'model__backbone__grad_checkpointing': True, 'train_cfg__val_interval': 2},
        {'train_dataloader__dataset__on_bad_image': 'raise'},
        {'default_hooks__bad_images': {'type': 'BadImagesHook', 'max_share': 0.2}},
        {'my_variable': 3},
    ],
)
def test_what_does_not_change_the_training_may_differ(checkpoint, options):
    check_same_experiment(changed(checkpoint, **options), checkpoint)


def test_a_script_beside_the_checkpoint_is_neither_run_nor_taken_for_its_config(checkpoint):
    folder = Path(checkpoint).parent
    (folder / 'script.py').write_text(f"import os, sys\nos.mkdir('{folder}/trace')\n")
    check_same_experiment(changed(checkpoint), checkpoint)
    with pytest.raises(ValueError, match=r'resume with .*toy\.py'):
        check_same_experiment(changed(checkpoint, randomness__seed=7), checkpoint)
    assert not (folder / 'trace').exists()


def test_a_checkpoint_without_a_config_beside_it_is_taken(tmp_path: Path):
    check_same_experiment(toy_config(tmp_path), str(tmp_path / 'epoch_1.pth'))


def test_many_differences_are_counted(checkpoint):
    cfg = changed(checkpoint)
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=1, momentum=0.9, nesterov=True, dampening=0)
    with pytest.raises(ValueError, match='and 1 more'):
        check_same_experiment(cfg, checkpoint)
