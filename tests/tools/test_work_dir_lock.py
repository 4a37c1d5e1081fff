"""The lock in ``tools/train.py`` allows one run at a time, and several in sequence."""

import shutil
from pathlib import Path

import pytest

from a2mim.engine import processes
from a2mim.engine.processes import WorkDirLock
from toy_run import load_tool, toy_config, write_images

pytestmark = pytest.mark.integration

train = load_tool('train').main


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 2)
    toy_config(tmp_path / 'data', train_cfg__max_epochs=1).dump(f'{tmp_path.name}.py')
    return f'{tmp_path.name}.py'


@pytest.mark.parametrize('options', [[], ['--resume']])
def test_a_folder_in_which_a_run_trains_is_refused(config, capsys, monkeypatch, options):
    tool = load_tool('train')
    monkeypatch.setattr(processes, 'WorkDirLock', lambda: WorkDirLock(patience=0))
    with WorkDirLock() as other:
        other.take('shared')
        with pytest.raises(SystemExit) as exit_:
            tool.main([config, '--work-dir', 'shared', *options])
    assert exit_.value.code == 2
    assert 'error: another run trains in shared (host ' in capsys.readouterr().err
    assert [path.name for path in Path('shared').iterdir()] == [processes.NAME]


def test_a_run_that_failed_and_one_that_ended_leave_the_folder_free(config):
    with pytest.raises(SystemExit):
        train([config, '--work-dir', 'run', '--cfg-options', 'model.backbone.num_classes=4'])
    shutil.rmtree('run')
    train([config, '--work-dir', 'run'])
    with WorkDirLock(patience=0) as lock:
        assert lock.take('run') is None
