"""Where a run writes, and where not."""

from pathlib import Path

import pytest

from a2mim.engine.launch import default_work_dir, refuse_used_work_dir


@pytest.mark.parametrize(
    'config, work_dir',
    [
        (
            'configs/openmixup/pretrain/a2mim/imagenet/r50.py',
            'work_dirs/openmixup/pretrain/a2mim/imagenet/r50',
        ),
        ('/home/me/configs/repo/configs/a/b.py', '/home/me/configs/repo/work_dirs/a/b'),
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
