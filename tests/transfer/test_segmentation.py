"""Every segmentor, shrunk by options alone, trains, evaluates and resumes on generated images."""

import json
from pathlib import Path

import pytest
import torch

from interruption import KillAfterThirdIteration, KilledError
from shrunk_segmentor import CONFIGS, options, write_shapes

SIZE = 64
pytestmark = [
    pytest.mark.transfer,
    # MMSegmentation says things about its own arguments, and torch about its threads.
    pytest.mark.filterwarnings('default'),
]


@pytest.fixture(scope='module')
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images for training and two for validation, in ADE20K's format."""
    return write_shapes(tmp_path_factory.mktemp('shapes'), images=6, val=2, size=SIZE)


@pytest.mark.parametrize('config', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_it_trains_evaluates_and_resumes(config, label_maps, trunk, tmp_path):
    from a2mim.engine.processes import WorkDirLock
    from a2mim.transfer import test, train
    from a2mim.transfer.launch import build_train_runner, parse_train_args

    line = [str(config), str(trunk(config)), *options(config, label_maps, SIZE)]
    line += ['--work-dir', str(tmp_path)]
    runner = build_train_runner(parse_train_args(line), WorkDirLock())
    runner.register_hook(KillAfterThirdIteration())
    with pytest.raises(KilledError):
        runner.train()
    train.main([*line, '--resume'])
    assert logged(tmp_path, 'step', 'loss') == [1, 2, 3, 4, 5]
    assert all(torch.isfinite(torch.tensor(logged(tmp_path, 'loss', 'loss'))))
    checkpoint = str(tmp_path / 'latest.pth')
    metrics = test.main([line[0], checkpoint, *line[2:-2], '--work-dir', str(tmp_path / 'test')])
    assert 0 <= metrics['mIoU'] <= 100
    assert [metrics['mIoU']] == logged(tmp_path, 'mIoU', 'mIoU')


def logged(work_dir: Path, name: str, beside: str) -> list[float]:
    """``name`` in every entry with ``beside`` that the runs in ``work_dir`` logged, in order."""
    entries = [
        json.loads(line)
        for path in sorted(work_dir.glob('2*/vis_data/scalars.json'))
        for line in path.read_text(encoding='utf-8').splitlines()
    ]
    return [entry[name] for entry in entries if beside in entry]
