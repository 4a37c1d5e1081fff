"""Every detector, shrunk by options alone, trains, evaluates and resumes on generated images."""

import json
from pathlib import Path

import pytest
import torch

from interruption import KillAfterFirstEpoch, KilledError
from shrunk_detector import CONFIGS, options

pytestmark = [
    pytest.mark.transfer,
    # MMDetection, pycocotools and imgaug say things about numpy, and torch about their threads.
    pytest.mark.filterwarnings('default'),
]


@pytest.mark.parametrize('config', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_it_trains_evaluates_and_resumes(config, shapes, trunk, tmp_path):
    from a2mim.engine.processes import WorkDirLock
    from a2mim.transfer import test, train
    from a2mim.transfer.launch import build_train_runner, parse_train_args

    line = [str(config), str(trunk(config)), *options(config, shapes, 96)]
    line += ['--work-dir', str(tmp_path)]
    runner = build_train_runner(parse_train_args(line), WorkDirLock())
    runner.register_hook(KillAfterFirstEpoch())
    with pytest.raises(KilledError):
        runner.train()
    train.main([*line, '--resume'])
    assert losses(tmp_path, 'step') == [1, 2, 3, 4, 5, 6]
    assert all(torch.isfinite(torch.tensor(losses(tmp_path, 'loss'))))
    checkpoint = str(tmp_path / 'latest.pth')
    metrics = test.main([line[0], checkpoint, *line[2:-2], '--work-dir', str(tmp_path / 'test')])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= metrics.keys()
    assert metrics == pytest.approx(validated(tmp_path), abs=1e-9)


def scalars(work_dir: Path) -> list[dict]:
    """What the runs in ``work_dir`` logged, in order."""
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text(encoding='utf-8').splitlines()
    ]


def losses(work_dir: Path, name: str) -> list[float]:
    return [entry[name] for entry in scalars(work_dir) if 'loss' in entry]


def validated(work_dir: Path) -> dict[str, float]:
    """Metrics of the last validation."""
    last = [entry for entry in scalars(work_dir) if 'coco/bbox_mAP' in entry][-1]
    return {name: value for name, value in last.items() if name.startswith('coco/')}
