"""Two machines, simulated by two calls of torchrun with one process each."""

from pathlib import Path

import pytest

from a2mim.engine.processes import NAME
from toy_run import read_scalars, toy_config, write_images
from two_processes import finish, free_port, torchrun

pytestmark = pytest.mark.integration


@pytest.fixture
def machines(tmp_path) -> list[Path]:
    """Folders of two machines, each with the images, and one that both see."""
    folders = [tmp_path / 'a', tmp_path / 'b']
    for folder in folders:
        write_images(folder / 'data/train', 4)
        write_images(folder / 'data/val', 2)
        toy_config(Path('data'), train_cfg__max_epochs=1).dump(folder / 'toy.py')
    return folders


def start(folders: list[Path], *options: str) -> list:
    """One call per machine, as on the command line."""
    port = free_port()
    return [
        torchrun(
            folder, 'toy.py', *options, processes=1, PORT=port, NNODES='2', NODE_RANK=str(rank)
        )
        for rank, folder in enumerate(folders)
    ]


def test_two_machines_train_one_model_and_the_first_one_writes_it(machines, tmp_path):
    shared = tmp_path / 'shared'
    first, second = map(finish, start(machines, '--work-dir', str(shared)))
    assert 'global batch 4 = 2 × 2 × 1' in first
    assert 'global batch' not in second
    assert len([line for line in read_scalars(shared) if 'loss' in line]) == 3
    assert (shared / 'latest.pth').resolve().name == 'epoch_1.pth'
    assert len([*shared.glob('*/*.log')]) == 1
    assert (shared / NAME).read_text() == ''


def test_a_machine_that_finds_no_checkpoint_resumes_from_that_of_the_first_one(machines):
    longer = ['--cfg-options', 'train_cfg.max_epochs=2']
    for folder, run in zip(machines, start(machines, '--work-dir', 'run'), strict=True):
        finish(run)
        assert (folder / 'run/latest.pth').exists() is (folder is machines[0])
    (machines[0] / 'run/toy.py').unlink()  # which would refuse the longer run
    for run in start(machines, '--work-dir', 'run', '--resume', *longer):
        finish(run)
    assert (machines[0] / 'run/epoch_2.pth').exists()
    steps = [line['step'] for line in read_scalars(machines[0] / 'run') if 'loss' in line]
    assert steps == [1, 2, 3, 4, 5, 6]
