"""Which files a run may go on from."""

import os
import re
from pathlib import Path

import pytest
import torch

from a2mim.engine.checkpointing import newest_checkpoint

META = dict(epoch=0, iter=2)


def write_state(path: Path, iteration: object, **others: object) -> Path:
    state = dict(
        state_dict={'weight': torch.arange(1000.0)},
        optimizer=dict(state={}, param_groups=[]),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    )
    torch.save(state | dict(meta=dict(epoch=0, iter=iteration)) | others, path)
    return path


def flip_a_byte_of_the_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    'damage, reason',
    [
        (lambda path: path.write_bytes(b''), 'it is empty'),
        (lambda path: os.truncate(path, path.stat().st_size - 1), 'it is cut off'),
        (lambda path: os.truncate(path, 100), 'it is cut off'),
        (lambda path: path.write_bytes(bytes(5000)), 'it is cut off'),
        (flip_a_byte_of_the_weights, r'the checksum of .* in it is wrong'),
        (lambda path: torch.save([1], path), 'it holds a list'),
        (lambda path: torch.save({'weight': torch.ones(1)}, path), 'it has no meta, state_dict'),
        (lambda path: write_state(path, None), 'its meta.iter is None'),
        (lambda path: write_state(path, '2'), "its meta.iter is '2'"),
        (lambda path: write_state(path, True), 'its meta.iter is True'),
        (lambda path: write_state(path, -2), 'its meta counts -2 iterations'),
        (lambda path: write_state(path, 2, meta=dict(iter=2)), 'its meta has no epoch'),
        (lambda path: write_state(path, 2, meta=[2]), 'its meta is a list'),
        (lambda path: write_state(path, 2, meta=META | dict(run='8')), "its meta.run is '8'"),
        (lambda path: write_state(path, 2, meta=META | dict(cfg={})), 'its meta.cfg is a dict'),
        (lambda path: write_state(path, 2, optimizer={}), 'its optimizer has no state'),
        (lambda path: write_state(path, 2, optimizer=dict(a={})), 'its optimizer has no state'),
        (lambda path: write_state(path, 2, optimizer='Adam'), "its optimizer is 'Adam'"),
        (lambda path: write_state(path, 2, message_hub={}), 'its message_hub has no log_scalars'),
        (lambda path: write_state(path, 2, param_schedulers=3), 'its param_schedulers is 3'),
        (lambda path: write_state(path, 2, state_dict=None), 'it has no state_dict'),
    ],
)
def test_a_file_that_is_not_whole_is_passed_over(tmp_path, damage, reason):
    whole = write_state(tmp_path / 'iter_1.pth', 1)
    damage(write_state(tmp_path / 'iter_2.pth', 2))
    found, skipped = newest_checkpoint(tmp_path)
    assert found == whole
    assert len(skipped) == 1
    assert re.match(f'skipped {tmp_path}/iter_2.pth: {reason}', skipped[0])


def test_newest_is_counted_in_iterations_not_by_the_clock(tmp_path):
    newest = write_state(tmp_path / 'epoch_9.pth', 90)
    write_state(tmp_path / 'iter_80.pth', 80)
    os.utime(newest, (0, 0))
    assert newest_checkpoint(tmp_path) == (newest, [])


def test_a_file_that_asks_to_run_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / 'trace'),)

    write_state(tmp_path / 'iter_2.pth', 2, more=Evil())
    found, skipped = newest_checkpoint(tmp_path)
    assert found is None
    assert 'mkdir while it is read, which is no data: refused' in skipped[0]
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('name', ['best_accuracy_epoch_1.pth', 'iter_1.pth.99.partial'])
def test_other_files_are_no_candidates(tmp_path, name):
    write_state(tmp_path / name, 1)
    assert newest_checkpoint(tmp_path) == (None, [])


def test_states_of_several_optimisers_are_whole_too(tmp_path):
    one = dict(state={}, param_groups=[])
    newest = write_state(tmp_path / 'iter_2.pth', 2, optimizer=dict(generator=one, critic=one))
    assert newest_checkpoint(tmp_path) == (newest, [])
