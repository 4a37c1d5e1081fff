"""The checks in a run: they are made and logged, and change nothing."""

from pathlib import Path

import pytest
import torch

from toy_run import load_tool, read_scalars, toy_config

pytestmark = pytest.mark.integration

train = load_tool('train').main
# Batch statistics, dropped paths, dropped features, and pairs of images from numpy's generator.
RANDOM = dict(
    model__backbone__model_name='resnet10t',
    model__backbone__drop_path_rate=0.5,
    model__backbone__drop_rate=0.5,
    model__data_preprocessor__mixup=dict(mixup_alpha=1.0, num_classes=3),
    model__loss__type='SoftTargetCrossEntropy',
)


@pytest.fixture
def config(images, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    toy_config(images, train_cfg__max_epochs=2, **RANDOM).dump(f'{tmp_path.name}.py')
    return f'{tmp_path.name}.py'


def states(work_dir: str) -> list:
    """Weights, buffers, optimiser and curves at the end of a run."""
    found = torch.load(f'{work_dir}/latest.pth', weights_only=False)
    losses = [line['loss'] for line in read_scalars(Path(work_dir)) if 'loss' in line]
    return [found['state_dict'], found['optimizer']['state'], losses]


def test_a_checked_run_is_bit_for_bit_the_one_that_was_not(config):
    train([config, '--work-dir', 'checked'])
    train([config, '--work-dir', 'not', '--no-preflight'])
    (weights, moments, losses), (others, other_moments, other_losses) = map(
        states, ('checked', 'not')
    )
    assert losses == other_losses
    assert len(losses) == 6
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name
    for index, moment in moments.items():
        assert torch.equal(moment['exp_avg'], other_moments[index]['exp_avg'])


def test_every_check_is_a_line_of_the_log_and_a_resumed_run_is_checked_too(config):
    train([config, '--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1'])
    Path('run', config).unlink()  # which would refuse the longer run
    train([config, '--work-dir', 'run', '--resume'])
    # Two runs that start within a second share a log.
    logs = [log.read_text().splitlines() for log in sorted(Path('run').glob('*/*.log'))]
    checks = [line.split('preflight: ')[1] for log in logs for line in log if 'preflight: ' in line]
    names = ['disk', 'batches', 'shared memory', 'pixels', 'dry step']
    # The branches start at zero in the first run only, and three steps do not open them.
    assert [check.split(':')[0] for check in checks] == [*names, 'branches', *names]


def test_a_check_can_be_left_out_and_not_by_chance(config):
    train([config, '--work-dir', 'run', '--no-preflight'])
    assert 'preflight' not in next(Path('run').glob('*/*.log')).read_text()


def test_a_step_that_fails_ends_the_run_in_one_line(config, capsys):
    options = ['--cfg-options', 'model.data_preprocessor.std=[1e-45,1e-45,1e-45]']
    with pytest.raises(SystemExit) as exit_:
        train([config, '--work-dir', 'run', *options])
    assert exit_.value.code == 2
    assert 'error: dry step: not finite' in capsys.readouterr().err
    assert not [*Path('run').glob('*.pth')]
