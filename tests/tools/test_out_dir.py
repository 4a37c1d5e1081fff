"""A run whose checkpoints go to ``out_dir`` is found, refused and locked there."""

from pathlib import Path

import pytest

from a2mim.engine import processes
from a2mim.engine.processes import WorkDirLock
from toy_run import load_tool, toy_config, write_images

pytestmark = pytest.mark.integration

tool = load_tool('train')
OUT = 'default_hooks.checkpoint.out_dir=big/disk'  # does not exist before the first run


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """A function from options to the exit code of a run of one epoch, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, 'WorkDirLock', lambda: WorkDirLock(patience=0))
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 2)
    config = f'{tmp_path.name}.py'
    toy_config(tmp_path / 'data', train_cfg__max_epochs=1).dump(config)

    def run(*options: str) -> tuple[int, str]:
        try:
            tool.main([config, *options])
        except SystemExit as exit_:
            return exit_.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def content() -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path().rglob('epoch_*.pth')}


def test_a_run_is_continued_in_its_folder_and_no_other_run_takes_it(train):
    assert train('--work-dir', 'A/run', '--cfg-options', OUT)[0] == 0
    before = content()
    assert [*before] == ['big/disk/run/epoch_1.pth']
    assert train('--work-dir', 'A/run', '--resume', 'auto', '--cfg-options', OUT)[0] == 0
    for other in ('A/run', 'B/run'):
        code, error = train('--work-dir', other, '--cfg-options', OUT)
        assert code == 2
        assert 'big/disk/run holds the checkpoints of a run (epoch_1.pth' in error
    code, error = train('--work-dir', 'B/run', '--resume', 'auto', '--cfg-options', OUT)
    assert code == 2
    assert 'big/disk/run/epoch_1.pth belongs to the run in A/run, not to B/run' in error
    assert content() == before


def test_two_runs_at_a_time_do_not_share_a_folder(train):
    with WorkDirLock() as other:
        other.take('big/disk/run')
        code, error = train('--work-dir', 'B/run', '--cfg-options', OUT)
    assert code == 2
    assert 'another run trains in big/disk/run (host ' in error


@pytest.mark.parametrize('first, then', [([], [OUT]), ([OUT], [])], ids=['added', 'dropped'])
def test_a_run_is_continued_where_out_dir_is_added_or_dropped(train, first, then):
    assert train('--work-dir', 'A/run', '--cfg-options', 'randomness.seed=0', *first)[0] == 0
    before = content()
    longer = ['train_cfg.max_epochs=2', *then]
    assert train('--work-dir', 'A/run', '--resume', '--cfg-options', *longer)[0] == 0
    folder = 'big/disk/run' if then else 'A/run'
    assert content().keys() - before.keys() == {f'{folder}/epoch_2.pth'}
    log = max(Path('A/run').glob('*/*.log')).read_text()
    assert f'resuming from {next(iter(before))}' in log
