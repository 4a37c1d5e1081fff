"""``tools/train.py`` on a folder of photographs with one per cent of each kind of bad file."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bad_images import kinds, patches, write_bad
from toy_run import ROOT, load_tool, read_scalars, toy_config

train = load_tool('train').main
NUMBER, EACH = 300, 3
# All kinds together would be the tenth of the images at which a run stops.
KINDS = [kind for kind in kinds() if kind != 'floats']
NO_UTF8 = os.fsdecode(b'caf\xe9.png')


@pytest.fixture(scope='session')
def damaged(tmp_path_factory) -> tuple[Path, set[bytes]]:
    """A folder with class folders in ``train`` and ``val``, and the names of its bad files."""
    root = tmp_path_factory.mktemp('damaged')
    for part, number in (('train', NUMBER), ('val', 6)):
        for index, patch in enumerate(patches(number)):
            path = root / part / f'class {index % 3}' / f'{index:03}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            patch.save(path)
    good = sorted((root / 'train').glob('*/*.png'))
    bad = set()
    numbers = iter(random.Random(0).sample(range(NUMBER), EACH * len(KINDS) + 2))
    for kind in KINDS:
        for _ in range(EACH):
            path = good[next(numbers)]
            path.unlink()
            bad.add(os.fsencode(write_bad(path.parent, kind, path.stem)))
    first, second = good[next(numbers)], good[next(numbers)]
    first.rename(first.with_name(NO_UTF8))
    second.rename(second.with_name(f'{NO_UTF8[:-4]}-empty.png')).write_bytes(b'')
    bad.add(os.fsencode(second.with_name(f'{NO_UTF8[:-4]}-empty.png')))
    return root, bad


@pytest.fixture
def config(damaged, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = f'{tmp_path.name}.py'
    changes = dict(train_cfg__max_epochs=2, train_dataloader__batch_size=30)
    cfg = toy_config(damaged[0], auto_scale_lr__base_batch_size=30, **changes)
    cfg.log_processor = dict(type='SpeedLogProcessor')
    cfg.dump(path)
    return path


def unfolded(log: Path) -> str:
    """The text of a log, whose lines are folded."""
    return ' '.join(log.read_text().split())


@pytest.mark.integration
def test_it_trains_and_lists_exactly_those_files_with_any_number_of_workers(
    config, damaged, tmp_path
):
    for workers in (0, 2):
        option = f'train_dataloader.num_workers={workers}'
        train([config, '--work-dir', f'{workers}', '--cfg-options', option])
        listed = (tmp_path / f'{workers}/bad_files.txt').read_bytes().splitlines()
        assert listed == sorted(damaged[1])
        lines = [line for line in read_scalars(tmp_path / f'{workers}') if 'loss' in line]
        assert [line['bad_images'] for line in lines][9:] == [len(damaged[1])] * 11
        log = unfolded(next((tmp_path / f'{workers}').glob('*/*.log')))
        assert log.count('Another image takes its place') == len(damaged[1])
        assert r'caf\udce9-empty.png' in log
    alone, parallel = (
        torch.load(f'{workers}/latest.pth', weights_only=False)['state_dict'] for workers in (0, 2)
    )
    assert all(torch.equal(alone[key], parallel[key]) for key in alone)


def test_strict_data_ends_at_the_first_one_with_its_name(config, damaged, capsys):
    with pytest.raises(SystemExit) as exit_:
        train([config, '--work-dir', 'strict', '--strict-data'])
    assert exit_.value.code == 2
    error = next(x for x in capsys.readouterr().err.splitlines() if x.startswith('error: '))
    assert any(repr(os.fsdecode(path)) in error for path in damaged[1])


def test_too_many_end_the_run_after_any_iteration_with_one_line(config, capsys):
    hook = 'custom_hooks.0.max_share=0.01'
    cfg = Path(config).read_text() + "\ncustom_hooks = [dict(type='BadImagesHook')]\n"
    Path(config).write_text(cfg)
    with pytest.raises(SystemExit) as exit_:
        train([config, '--work-dir', 'many', '--cfg-options', hook])
    assert exit_.value.code == 2
    assert 'more than the accepted share of 1.0%' in capsys.readouterr().err


def test_a_bad_image_among_those_for_evaluation_ends_the_run(config, damaged, capsys):
    path = damaged[0] / 'val/class 0/000.png'
    content = path.read_bytes()
    path.write_bytes(b'')
    try:
        with pytest.raises(SystemExit) as exit_:
            train([config, '--work-dir', 'val'])
    finally:
        path.write_bytes(content)
    assert exit_.value.code == 2
    error = next(x for x in capsys.readouterr().err.splitlines() if x.startswith('error: '))
    assert repr(str(path)) in error
    assert 'verify_dataset.py' in error


@pytest.mark.slow
def test_two_processes_list_the_same_files_once(config, damaged, tmp_path):
    result = subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', config, '2', '--work-dir', 'two'],
        cwd=tmp_path,
        env={
            **os.environ,
            'PYTHON': sys.executable,
            'PYTHONPATH': str(ROOT),
            'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '',  # gloo, wherever the test runs
        },
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'two/bad_files.txt').read_bytes().splitlines() == sorted(damaged[1])
    log = unfolded(next((tmp_path / 'two').glob('*/*.log')))
    assert log.count('Another image takes its place') == len(damaged[1])
