"""Two processes go on as they were, and another number as nearly as it can or not at all."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from exact_run import EPOCH, config, run
from toy_run import ROOT, write_images

pytestmark = pytest.mark.integration
WORKER = Path(__file__).with_name('two_exact_runs.py')
ONE_PROCESS = dict(
    model__backbone__model_name='test_resnet', model__backbone__output_stride=16, resume=True
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``two_exact_runs.py`` left."""
    if torch.cuda.is_available():
        pytest.skip('two processes on the CPU are compared bit by bit with this one')
    data, folder = tmp_path_factory.mktemp('data'), tmp_path_factory.mktemp('two')
    write_images(data / 'train', 6)
    write_images(data / 'val', 2)
    (folder / 'data').symlink_to(data)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    variables = dict(
        PYTHONPATH=f'{ROOT}:{ROOT / "tests"}', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    done = subprocess.run(
        [sys.executable, WORKER, data, folder],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope='module', params=[0, 1])
def found(request, folder: Path) -> tuple[int, dict]:
    return request.param, torch.load(folder / f'{request.param}.pt', weights_only=False)


def test_each_process_goes_on_with_its_own_images_and_random_numbers(found):
    assert found[1]['steps'] == []
    assert len(found[1]['batches']) == 3 * EPOCH - (EPOCH + 3)


def test_each_process_validates_what_it_would_have_validated(found):
    assert found[1]['validated'] == []
    assert found[1]['num_validated'] == 2 * 2  # two epochs, two batches of its share


def test_only_running_statistics_that_nobody_reads_differ_in_the_second_process(found):
    rank, found = found
    assert rank == 1 or found['state'] == []
    assert all('.running_' in name for name in found['state'])


def test_one_process_goes_on_with_the_images_of_two(folder, tmp_path):
    file = str(folder / f'whole/iter_{EPOCH + 3}.pth')
    cfg = config(folder / 'data', tmp_path / 'one', 'epochs', 'ema', load_from=file, **ONE_PROCESS)
    _, witness = run(cfg)
    left, right = (torch.load(folder / f'{rank}.pt', weights_only=False) for rank in (0, 1))
    for step, batch in left['batches'].items():
        both = [*batch, *right['batches'][step]]
        alone = [*witness.steps[step]['batch image']]
        assert sorted(image.numpy().tobytes() for image in both) == sorted(
            image.numpy().tobytes() for image in alone
        )
    log = next((tmp_path / 'one').rglob('*.log')).read_text()
    assert 'resumed with global batch 4 = 1 × 4 × 1' in log
    assert 'not to the last bit' in log


def test_one_process_with_another_batch_is_refused(folder, tmp_path):
    file = str(folder / f'whole/iter_{EPOCH + 3}.pth')
    options = dict(load_from=file, train_dataloader__batch_size=2, **ONE_PROCESS)
    cfg = config(folder / 'data', tmp_path / 'other', 'epochs', 'ema', **options)
    with pytest.raises(ValueError, match=r'train_dataloader\.batch_size=4'):
        run(cfg)
