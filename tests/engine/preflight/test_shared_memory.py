"""Batches that wait in shared memory, counted."""

import shutil
from collections import namedtuple

import pytest

from a2mim.engine import preflight

Usage = namedtuple('Usage', 'total used free')
IMAGE = 3 * 32 * 32 + 8  # bytes of its pixels and its label


def test_no_worker_needs_none(build_runner, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(0, 0, 0))
    assert '0 data workers' in preflight.check_shared_memory(build_runner())


def test_what_all_workers_of_all_processes_prepare_is_counted(build_runner, monkeypatch):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    runner = build_runner(
        train_dataloader__num_workers=2,
        train_dataloader__prefetch_factor=5,
        val_dataloader__num_workers=1,
    )
    # Batches of 4 images and of 2, and torch's own prefetch factor of 2.
    needed = 2 * IMAGE * (4 * (2 * 5 + 1) + 2 * (1 * 2 + 1))
    monkeypatch.setattr(preflight, 'FOLDER', '/tmp')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(0, 0, needed))
    assert '0.3 MiB needed' in preflight.check_shared_memory(runner)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(0, 0, needed - 1))
    with pytest.raises(ValueError, match=r'num_workers or prefetch_factor .*--shm-size'):
        preflight.check_shared_memory(runner)
