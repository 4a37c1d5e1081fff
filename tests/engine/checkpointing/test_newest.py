"""Which files a run may go on from."""

import os
import re
from pathlib import Path

import pytest
import torch

from a2mim.engine.checkpointing import newest_checkpoint


def write_state(path: Path, iteration: object, **others: object) -> Path:
    state = dict(state_dict={'weight': torch.arange(1000.0)}, optimizer={}, message_hub={})
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
        (lambda path: write_state(path, None), 'its iteration is None'),
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
