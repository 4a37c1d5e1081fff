"""Several validation sets, and validation before the first step."""

import shutil
from pathlib import Path

import pytest
from mmengine import Config

from a2mim.engine.validation import name_sets
from toy_run import load_tool, loader, read_scalars, toy_config, write_images

SETS = [dict(batch_size=2), dict(batch_size=3, name='sketch'), dict(batch_size=4)]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """One epoch with three validation sets, of 6, 3 and 6 images."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 2)
    write_images(tmp_path / 'data/sketch', 1)
    shutil.copytree(tmp_path / 'data/val', tmp_path / 'data/same')
    cfg = toy_config(Path('data'), train_cfg__max_epochs=1)
    cfg.val_dataloader = [
        loader(Path('data/val'), 2, shuffle=False),
        dict(name='sketch', **loader(Path('data/sketch'), 2, shuffle=False)),
        loader(Path('data/same'), 4, shuffle=False),
    ]
    return cfg


def train(cfg: Config, *options: str) -> list[dict]:
    """What the training logs for its validations."""
    cfg.dump('toy.py')
    load_tool('train').main(['toy.py', '--work-dir', 'run', *options])
    return [line for line in read_scalars(Path('run')) if 'accuracy/top1' in line]


@pytest.mark.parametrize('split', ['val', 'test'])
def test_a_list_of_loaders_becomes_the_first_and_named_others(split):
    evaluator = dict(type='Accuracy')
    loop = dict(type='ValLoop', fp16=True)
    cfg = Config(
        {f'{split}_dataloader': SETS, f'{split}_evaluator': evaluator, f'{split}_cfg': loop}
    )
    name_sets(cfg)
    assert cfg[f'{split}_dataloader'] == dict(batch_size=2)
    assert cfg[f'{split}_cfg'].type == f'Multi{split.title()}Loop'
    assert cfg[f'{split}_cfg'].fp16
    others = cfg[f'{split}_cfg'].others
    assert [one.name for one in others] == ['sketch', f'{split}3']
    assert [one.dataloader for one in others] == [dict(batch_size=3), dict(batch_size=4)]
    assert [one.evaluator for one in others] == [evaluator, evaluator]


@pytest.mark.parametrize('loaders', [dict(batch_size=2), [dict(batch_size=2, name='only')]])
def test_one_loader_is_validated_as_ever(loaders):
    cfg = Config(dict(val_dataloader=loaders, val_cfg=dict(), val_evaluator=dict()))
    name_sets(cfg)
    assert cfg.to_dict() == dict(
        val_dataloader=dict(batch_size=2), val_cfg=dict(), val_evaluator=dict()
    )


@pytest.mark.parametrize(
    ('loaders', 'told'),
    [
        ([], r'val_dataloader=\[\]'),
        ([dict(), 'b'], "'b'"),
        ([dict(name='a'), dict(name='a')], r"\['a', 'a'\]"),
    ],
)
def test_what_is_no_list_of_named_loaders_is_refused(loaders, told):
    cfg = Config(dict(val_dataloader=loaders, val_cfg=dict(), val_evaluator=dict()))
    with pytest.raises((TypeError, ValueError), match=told):
        name_sets(cfg)


@pytest.mark.integration
def test_every_set_is_validated_and_tested_under_its_name(config):
    config.default_hooks.checkpoint.save_best = 'sketch/accuracy/top1'
    config.dump('toy.py')
    (logged,) = train(config)
    names = {f'{name}accuracy/top{k}' for name in ('', 'sketch/', 'val3/') for k in (1, 2)}
    measured = {name: logged[name] for name in names}
    assert measured['accuracy/top1'] == measured['val3/accuracy/top1']  # the same images
    assert round(measured['sketch/accuracy/top1'] * 3) % 100 == 0  # of three images
    assert list(Path('run').glob('best_sketch*'))
    tested = load_tool('test').main(['toy.py', 'run/latest.pth'])
    assert {name: tested[name] for name in names} == pytest.approx(measured)


@pytest.mark.integration
def test_every_set_must_have_the_classes_of_the_training(config, capsys):
    shutil.move('data/same/red', 'data/same/ruby')
    with pytest.raises(SystemExit) as exit_info:
        train(config)
    assert exit_info.value.code == 2
    assert 'ruby' in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize('by_epoch', [True, False])
def test_validation_before_the_first_step(config, by_epoch):
    config.val_dataloader = config.val_dataloader[0]
    if not by_epoch:
        config.train_cfg = dict(by_epoch=False, max_iters=3, val_interval=3)
        config.param_scheduler = []
        config.default_hooks.logger.log_metric_by_epoch = False
        config.default_hooks.checkpoint.update(by_epoch=False, interval=3)
    config.train_cfg.val_begin = 0
    config.default_hooks.checkpoint.save_best = 'accuracy/top1'
    logged = train(config)
    assert [line['step'] for line in logged] == [0, 1 if by_epoch else 3]
    config.train_cfg.val_begin = 1
    losses = [line['loss'] for line in read_scalars(Path('run')) if 'loss' in line]
    shutil.rmtree('run')
    assert len(train(config)) == 1
    assert losses == [line['loss'] for line in read_scalars(Path('run')) if 'loss' in line]
