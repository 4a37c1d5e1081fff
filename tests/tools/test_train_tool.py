"""``tools/train.py`` and ``tools/test.py`` on a run of seconds."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.registry import HOOKS
from toy_run import load_tool, read_scalars, toy_config, write_images

train, evaluate = load_tool('train').main, load_tool('test').main


class InterruptedRunError(RuntimeError):
    """Simulates a machine failure."""


@HOOKS.register_module()
class InterruptAfter(Hook):
    """Fail after some epochs."""

    priority = 'LOWEST'
    only_looks = True

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.epoch + 1 == self.epochs:
            raise InterruptedRunError


@pytest.fixture(scope='session')
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', 4)
    write_images(root / 'val', 2)
    return root


@pytest.fixture
def config(images, tmp_path, monkeypatch) -> str:
    """A config of its own name for every test: mmengine keeps loggers by name and second."""
    monkeypatch.chdir(tmp_path)
    path = Path('configs', f'{tmp_path.name}.py')
    path.parent.mkdir()
    toy_config(images, train_cfg__max_epochs=1).dump(path)
    return str(path)


def refused(capsys, *argv: str, tool: object = train) -> str:
    """The error line with which a run ends."""
    with pytest.raises(SystemExit) as exit_:
        tool(argv)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return next(line for line in lines if line.startswith('error: '))


def test_a_run_leaves_its_checkpoint_config_and_curve_in_the_folder_of_its_config(config, tmp_path):
    train([config])
    work_dir = tmp_path / 'work_dirs' / Path(config).stem
    assert (work_dir / 'latest.pth').resolve().name == 'epoch_1.pth'
    assert (work_dir / Path(config).name).is_file()
    losses = [line['loss'] for line in read_scalars(work_dir) if 'loss' in line]
    assert len(losses) == 3


def test_a_resumed_run_equals_one_that_was_not_interrupted(config):
    longer = ['--cfg-options', 'train_cfg.max_epochs=3']
    train([config, '--work-dir', 'whole', *longer])
    Path('cut.py').write_text(
        Path(config).read_text() + "custom_hooks = [dict(type='InterruptAfter', epochs=2)]\n"
    )
    with pytest.raises(InterruptedRunError):
        train(['cut.py', '--work-dir', 'cut', *longer])
    # The machine is up again: the same config without the interruption.
    shutil.copy(config, 'up.py')
    train(['up.py', '--work-dir', 'cut', '--resume', *longer])
    steps = {
        name: [(line['step'], line['lr'], line['loss']) for line in lines if 'lr' in line]
        for name, lines in ((name, read_scalars(Path(name))) for name in ('whole', 'cut'))
    }
    assert steps['cut'] == steps['whole']
    states = [torch.load(f'{name}/epoch_3.pth', weights_only=False) for name in ('whole', 'cut')]
    for key, tensor in states[0]['state_dict'].items():
        torch.testing.assert_close(states[1]['state_dict'][key], tensor, rtol=0, atol=0)


def test_resuming_where_nothing_was_saved_starts(config):
    train([config, '--work-dir', 'new', '--auto_resume'])
    assert Path('new/latest.pth').exists()


def test_a_used_folder_and_another_experiment_are_refused(config, capsys):
    train([config, '--work-dir', 'used'])
    assert '--resume auto' in refused(capsys, config, '--work-dir', 'used')
    options = ['--resume', '--cfg-options', 'optim_wrapper.optimizer.lr=9']
    line = refused(capsys, config, '--work-dir', 'used', *options)
    assert 'optim_wrapper.optimizer.lr: 0.001 then, 9 now' in line


def test_a_run_is_not_resumed_into_the_folder_of_another(config, capsys):
    train([config, '--work-dir', 'a'])
    shutil.copytree('a', 'b', symlinks=True)
    assert '--work-dir' in refused(capsys, config, '--work-dir', 'a', '--resume', 'b/epoch_1.pth')


@pytest.mark.integration
@pytest.mark.parametrize('precision', [['--amp'], ['--precision', 'auto']], ids=str)
def test_mixed_precision_and_compile_train_on_the_cpu(config, capsys, precision):
    options = ['--work-dir', 'd', '--compile', '--cfg-options', 'compile.backend=eager']
    train([config, *precision, *options])
    meta = torch.load('d/latest.pth', weights_only=False)['meta']
    assert "float32_matmul='high'" in meta['cfg']
    # The precision belongs to the training.
    line = refused(capsys, config, '--resume', *options)
    assert "optim_wrapper.type: 'AmpOptimWrapper' then" in line and 'float32_matmul' not in line


def test_fewer_images_per_iteration_accumulate_to_the_same_batch(config):
    train([config, '--work-dir', 'd', '--cfg-options', 'train_dataloader.batch_size=2'])
    text = next(Path('d').glob('*/*.log')).read_text()
    assert 'global batch 4 = 1 × 2 × 2 (processes × batch × accumulation)' in text


def test_a_batch_that_the_images_cannot_fill_is_refused(config, capsys):
    options = ['--cfg-options', 'auto_scale_lr.base_batch_size=16']
    assert '12 images make 3 batches' in refused(capsys, config, *options)


@pytest.mark.parametrize(
    'options, message',
    [
        (['--data-root', 'nowhere'], '--data-root nowhere is not a folder'),
        (['--pretrained', 'gone.pth'], '--pretrained gone.pth'),
        (['--resume', 'gone.pth'], '--resume gone.pth'),
        (['--launcher', 'pytorch'], 'tools/dist_train.sh'),
        (['--cfg-options', 'optim_wraper.optimizer.lr=1'], 'did you mean optim_wrapper'),
        (['--cfg-options', 'model.backbone.model_name=rexnet50'], 'rexnet50'),
        (['--cfg-options', 'model.backbone.drop_pth=0.1'], 'drop_pth'),
        (['--cfg-options', 'train_dataloader.dataset.source.root=empty'], 'empty'),
        (['--cfg-options', 'model.backbone.num_classes=4'], 'num_classes=3'),
    ],
)
def test_bad_input_is_one_line_before_any_work(config, capsys, monkeypatch, options, message):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    assert message in refused(capsys, config, *options)
    assert not [*Path().glob('work_dirs/**/*.pth')]


def test_different_classes_in_validation_are_refused(config, images, capsys):
    shutil.copytree(images, 'other')
    Path('other/val/red').rename('other/val/ruby')
    line = refused(capsys, config, '--data-root', 'other')
    assert 'the validation images have the classes blue, green, ruby' in line


@pytest.mark.parametrize('option', ['--pretrained', '--load_checkpoint', '--resume'])
def test_a_payload_in_a_checkpoint_is_refused_wherever_it_is_given(config, capsys, option):
    class Payload:
        def __reduce__(self) -> tuple:
            return Path.mkdir, (Path('trace'),)

    torch.save({'state_dict': {'a': torch.zeros(1)}, 'meta': Payload()}, 'payload.pth')
    assert 'refused' in refused(capsys, config, option, 'payload.pth')
    assert not Path('trace').exists()


@pytest.mark.parametrize('option', ['--pretrained', '--load_checkpoint'])
def test_the_checkpoint_of_another_architecture_is_refused(config, capsys, option):
    torch.save({'state_dict': {f'blocks.{i}.w': torch.zeros(2) for i in range(9)}}, 'vit.pth')
    line = refused(capsys, config, option, 'vit.pth')
    assert 'does not fit' in line
    assert 'blocks.0.w' in line


def test_a_missing_config_is_one_line(capsys):
    assert 'config gone.py: there is no such file' in refused(capsys, 'gone.py')


@pytest.fixture
def checkpoint(config) -> str:
    train([config, '--work-dir', 'run'])
    return 'run/latest.pth'


def test_a_checkpoint_is_evaluated_into_lines_and_a_file(config, checkpoint, images, capsys):
    metrics = evaluate([config, checkpoint, '--data-root', str(images), '--out', 'out.json'])
    assert [*metrics] == ['accuracy/top1', 'accuracy/top2', 'accuracy/mean_of_classes']
    found = json.loads(Path('out.json').read_text())
    classes = found.pop('per_class')
    assert found == metrics
    assert {entry['name']: entry['images'] for entry in classes} == dict(red=2, green=2, blue=2)
    mean = sum(entry['top1'] for entry in classes) / 3
    assert mean == pytest.approx(metrics['accuracy/top1'])
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].split() == ['accuracy/top1', f'{metrics["accuracy/top1"]:.3f}']
    # The record of what was trained is still the record of what was trained.
    assert 'load_from' not in Path('run', Path(config).name).read_text()


def test_classes_are_shown_worst_first_and_in_full(config, checkpoint, images, capsys, tmp_path):
    name = 'red_' + 'of_a_name_that_needs_a_hundred_columns_and_some_more_' * 2
    shutil.copytree(images / 'val', tmp_path / 'val')
    (tmp_path / 'val/red').rename(tmp_path / 'val' / name)
    root = f'val_dataloader.dataset.source.root={tmp_path / "val"}'
    evaluate([config, checkpoint, '--per-class', '--out', 'out.json', '--cfg-options', root])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split('│')[1:-1] for line in lines if line.startswith('│')]
    shown = [(cells[0].strip(), int(cells[1]), float(cells[2])) for cells in rows]
    assert name in {row[0] for row in shown}
    assert shown == sorted(shown, key=lambda row: row[2])
    assert shown == [
        (entry['name'], entry['images'], round(entry['top1'], 1))
        for entry in json.loads(Path('out.json').read_text())['per_class']
    ]


def test_a_file_that_cannot_be_written_is_refused_before_the_evaluation(config, capsys):
    options = ['--out', 'nowhere/out.json']
    assert 'there is no folder nowhere' in refused(
        capsys, config, 'gone.pth', *options, tool=evaluate
    )
    assert '--out . is a folder' in refused(capsys, config, 'gone.pth', '--out', '.', tool=evaluate)


def test_classes_of_something_else_than_a_classifier_are_refused(config, checkpoint, capsys):
    other = "val_evaluator = dict(type='DumpResults', out_file_path='dump.pkl')\n"
    Path('other.py').write_text(Path(config).read_text() + other)
    line = refused(capsys, 'other.py', checkpoint, '--per-class', tool=evaluate)
    assert '--per-class needs the metric Accuracy' in line


def test_a_checkpoint_of_another_model_is_not_evaluated(config, capsys):
    train([config, '--work-dir', 'run'])
    options = ['--cfg-options', 'model.backbone.num_classes=5']
    line = refused(capsys, config, 'run/latest.pth', *options, tool=evaluate)
    assert 'has 3 classes, that of the model 5: set model.backbone.num_classes=3' in line


def test_a_config_without_evaluation_is_refused(config, capsys):
    Path('bare.pth').touch()
    options = ['--cfg-options', 'val_evaluator=']
    assert 'val_evaluator' in refused(capsys, config, 'bare.pth', *options, tool=evaluate)
