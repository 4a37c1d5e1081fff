"""Where a run writes, and where not."""

from pathlib import Path

import pytest
from mmengine import Config

from a2mim.engine.launch import (
    default_work_dir,
    folder_of_run,
    refuse_used_work_dir,
    write_config,
)
from a2mim.errors import NotWrittenError
from a2mim.weights import files


@pytest.mark.parametrize(
    'config, work_dir',
    [
        (
            'configs/openmixup/pretrain/a2mim/imagenet/r50.py',
            'work_dirs/openmixup/pretrain/a2mim/imagenet/r50',
        ),
        ('/home/me/configs/repo/configs/a/b.py', '/home/me/configs/repo/work_dirs/a/b'),
        ('/env/site-packages/a2mim/.mim/configs/a/b.py', 'work_dirs/a/b'),  # from openmim
        ('/elsewhere/mine.py', 'work_dirs/mine'),
        ('mine.v2.py', 'work_dirs/mine.v2'),
    ],
)
def test_the_folder_follows_from_the_config(config, work_dir):
    assert default_work_dir(config) == work_dir


def test_a_folder_with_checkpoints_is_refused_with_both_remedies(tmp_path: Path):
    (tmp_path / 'epoch_3.pth').touch()
    with pytest.raises(ValueError, match=r'epoch_3\.pth.*--resume auto.*--work-dir'):
        refuse_used_work_dir(str(tmp_path))


def test_logs_of_a_run_that_never_saved_are_no_obstacle(tmp_path: Path):
    (tmp_path / '20230725_120000').mkdir()
    (tmp_path / 'config.py').touch()
    refuse_used_work_dir(str(tmp_path))
    refuse_used_work_dir(str(tmp_path / 'not there'))


@pytest.mark.parametrize(
    'hooks, folder',
    [
        ({}, 'a/run'),
        (dict(checkpoint=None), 'a/run'),
        (dict(checkpoint=dict(type='CheckpointHook', out_dir='disk')), 'disk/run'),
        (dict(checkpoint=dict(type='CheckpointHook', out_dir='a/run')), 'a/run'),
        (dict(mine=dict(type='CheckpointHook', out_dir='disk')), 'disk/run'),
    ],
)
def test_checkpoints_go_to_the_folder_that_the_config_says(hooks, folder):
    assert folder_of_run(Config(dict(work_dir='a/run', default_hooks=hooks))) == Path(folder)


def test_a_disk_that_is_full_before_the_start_is_named_with_the_bytes(tmp_path, monkeypatch):
    config = tmp_path / 'mine.py'
    config.write_text('lr = 0.1')
    cfg = Config.fromfile(config)
    cfg.work_dir = str(tmp_path / 'run')
    (tmp_path / 'run').mkdir()
    write_config(cfg)
    assert Config.fromfile(tmp_path / 'run/mine.py').lr == 0.1
    monkeypatch.setattr(
        files.shutil, 'disk_usage', lambda _: files.shutil._ntuple_diskusage(9, 9, 7)
    )
    monkeypatch.setattr(files, 'WAITS', ())
    message = (
        r'run/mine\.py could not be written: .* \(262,\d+ bytes needed, 7 are free\)\. Make room'
    )
    with pytest.raises(NotWrittenError, match=message):
        write_config(cfg)


@pytest.mark.parametrize(
    ('text', 'written'),
    [
        ('"""Mine."""\nx = 1\n', 'config_as_run.py'),
        ('# mine\nx = 1\n', 'config_as_run.py'),
        ('x = 1\n', 'config.py'),
    ],
)
def test_a_config_in_its_own_work_dir_keeps_the_comments_of_its_author(tmp_path, text, written):
    path = tmp_path / 'config.py'
    path.write_text(text)
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.y = str(tmp_path), 2
    write_config(cfg)
    assert Config.fromfile(tmp_path / written).y == 2
    assert (path.read_text() == text) == (written != path.name)
