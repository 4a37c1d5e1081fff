"""Which name points where after a kill between a file and its link."""

from pathlib import Path

import pytest
import torch

from a2mim.engine.checkpointing import RunFiles
from a2mim.errors import NotWrittenError


def state(iteration: int) -> dict:
    return dict(
        meta=dict(epoch=0, iter=iteration),
        state_dict={},
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        optimizer=dict(state={}, param_groups=[]),
    )


def run_files(folder: Path) -> RunFiles:
    return RunFiles(folder, folder, ('iter_{}.pth',), keep=2)


def test_a_link_that_a_kill_left_behind_is_moved_to_the_newest_file(tmp_path):
    run_files(tmp_path).write(tmp_path / 'iter_1.pth', state(1))
    torch.save(state(2), tmp_path / 'iter_2.pth')
    run_files(tmp_path).repair()
    assert (tmp_path / 'latest.pth').readlink() == Path('iter_2.pth')
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_2.pth')


def test_it_is_not_moved_to_a_damaged_file(tmp_path):
    run_files(tmp_path).write(tmp_path / 'iter_1.pth', state(1))
    (tmp_path / 'iter_2.pth').write_bytes(b'half')
    run_files(tmp_path).repair()
    assert (tmp_path / 'latest.pth').readlink() == Path('iter_1.pth')


def test_a_file_that_cannot_be_read_is_never_removed(tmp_path):
    (tmp_path / 'iter_1.pth').write_bytes(b'half')
    files = run_files(tmp_path)
    for iteration in (2, 3, 4):
        files.write(tmp_path / f'iter_{iteration}.pth', state(iteration))
    names = {path.name for path in tmp_path.glob('iter*')}
    assert names == {'iter_1.pth', 'iter_3.pth', 'iter_4.pth'}


def test_the_best_weights_follow_a_folder_that_is_moved_and_the_next_state_ends_the_run(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    files = run_files(folder)
    files.hold()
    folder.rename(tmp_path / 'moved')
    files.write(folder / 'best_acc_epoch_1.pth', state(1), resumable=False)
    assert [path.name for path in (tmp_path / 'moved').iterdir()] == ['best_acc_epoch_1.pth']
    with pytest.raises(NotWrittenError, match=r'run was moved .* saved to .*moved/iter_2\.pth'):
        files.write(folder / 'iter_2.pth', state(2))
    assert (tmp_path / 'moved/latest.pth').readlink() == Path('iter_2.pth')
    assert not folder.exists()
    files.release()
