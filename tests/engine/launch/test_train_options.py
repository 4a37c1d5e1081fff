"""What each option of training changes in a config."""

import argparse
from pathlib import Path

import pytest
from mmengine import Config

from a2mim.engine.command_line import add_common_options, add_train_options, apply_train_options
from toy_run import toy_config


def parse(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    add_train_options(parser)
    return parser.parse_args(['config.py', *options])


def applied(*options: str, **changes: object) -> Config:
    cfg = toy_config(Path('data'), **changes)
    apply_train_options(cfg, parse(*options))
    return cfg


@pytest.mark.parametrize(
    'options, resume',
    [
        ([], None),
        (['--resume'], 'auto'),
        (['--resume', 'auto'], 'auto'),
        (['--auto_resume'], 'auto'),
        (['--auto-resume'], 'auto'),
        (['--resume', 'a.pth'], 'a.pth'),
        (['--resume_from', 'a.pth'], 'a.pth'),
    ],
)
def test_resuming_has_its_published_names_too(options, resume):
    assert parse(*options).resume == resume


@pytest.mark.parametrize(
    'options',
    [['--work-dir', 'd'], ['--work_dir', 'd'], ['--local_rank', '0'], ['--local-rank', '0']],
)
def test_dashes_and_underscores_are_the_same(options):
    parse(*options)


def test_amp_takes_the_wrapper_with_autocast():
    assert applied('--amp').optim_wrapper.type == 'AmpOptimWrapper'


def test_amp_refuses_a_wrapper_that_it_does_not_know():
    with pytest.raises(ValueError, match="not 'OptimWrapperDict'"):
        applied('--amp', optim_wrapper__type='OptimWrapperDict')


@pytest.mark.parametrize(
    'precision, expected',
    [
        ('auto', dict(type='AmpOptimWrapper', dtype='auto')),
        ('fp32', dict(type='OptimWrapper')),
        ('bf16', dict(type='AmpOptimWrapper', dtype='bfloat16')),
        ('fp16', dict(type='AmpOptimWrapper', dtype='float16')),
    ],
)
@pytest.mark.parametrize(
    'before',
    [
        dict(optim_wrapper__type='OptimWrapper'),
        dict(
            optim_wrapper__type='AmpOptimWrapper',
            optim_wrapper__dtype='float16',
            optim_wrapper__loss_scale=8.0,
        ),
    ],
    ids=['plain', 'mixed'],
)
def test_a_precision_is_that_whatever_the_config_has(precision, expected, before):
    wrapper = applied('--precision', precision, **before).optim_wrapper.to_dict()
    optimizer = applied().optim_wrapper.optimizer.to_dict()
    kept = {key: wrapper[key] for key in ('type', 'dtype', 'loss_scale') if key in wrapper}
    assert kept == expected and wrapper['optimizer'] == optimizer


def test_precision_is_one_of_four_and_stands_alone(capsys):
    for options in (['--amp', '--precision', 'auto'], ['--precision', 'half']):
        with pytest.raises(SystemExit) as left:
            parse(*options)
        assert left.value.code == 2
    assert 'not allowed with' in (said := capsys.readouterr().err)
    assert 'auto' in said and 'bf16' in said
    with pytest.raises(ValueError, match=r"--precision bf16 needs.*not 'OptimWrapperDict'"):
        applied('--precision', 'bf16', optim_wrapper__type='OptimWrapperDict')


def test_compile_keeps_the_options_of_the_config():
    assert applied('--compile').compile is True
    assert applied('--compile', compile__backend='eager').compile == dict(backend='eager')


def test_seed_and_determinism():
    cfg = applied('--seed', '7', '--deterministic')
    assert cfg.randomness == dict(seed=7, deterministic=True)


def test_a_config_without_a_seed_gets_one():
    cfg = toy_config(Path('data'))
    cfg.pop('randomness')
    apply_train_options(cfg, parse())
    assert cfg.randomness == dict(seed=0)


def test_the_seed_is_that_of_the_data_too():
    given = applied('--seed', '7', train_dataloader__dataset__seed=3)
    assert given.train_dataloader.dataset.seed == 7
    configured = applied(randomness__seed=5)
    assert configured.train_dataloader.dataset.seed == 5
    assert applied(train_dataloader__dataset__seed=3).train_dataloader.dataset.seed == 3


def few(seed: int | None = None) -> dict:
    source = dict(
        type='PhotoPatches', labels_per_class=2, **({} if seed is None else {'seed': seed})
    )
    return dict(type='ImageDataset', source=source, pipeline=[])


def test_few_labels_to_learn_from_are_drawn_by_the_seed_and_those_to_measure_on_are_fixed():
    parts = dict(
        train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[few(), few(seed=4)])),
        val_dataloader=dict(dataset=few()),
        custom_hooks=[dict(type='FeatureProbeHook', train=few(), test=few())],
    )
    cfg = applied('--seed', '7', **parts)
    drawn, fixed = (part.source for part in cfg.train_dataloader.dataset.datasets)
    assert (drawn.seed, fixed.seed) == (7, 4)
    (hook,) = cfg.custom_hooks
    assert hook.train.source.seed == 7
    assert 'seed' not in hook.test.source
    assert 'seed' not in cfg.val_dataloader.dataset.source
    assert 'source=dict(labels_per_class=2, seed=7,' in ' '.join(cfg.pretty_text.split())
    assert 'seed' not in applied('--seed', '7').train_dataloader.dataset.source


def test_auto_scale_lr_needs_a_base_batch():
    assert applied('--auto-scale-lr').auto_scale_lr.enable is True
    with pytest.raises(ValueError, match='base_batch_size'):
        applied('--auto-scale-lr', auto_scale_lr=None)


def test_pretrained_initialises_the_trunk(tmp_path):
    (tmp_path / 'trunk.pth').touch()
    cfg = applied('--pretrained', str(tmp_path / 'trunk.pth'))
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint=str(tmp_path / 'trunk.pth')
    )


def test_load_checkpoint_starts_from_a_whole_model(tmp_path):
    (tmp_path / 'model.pth').touch()
    cfg = applied('--load_checkpoint', str(tmp_path / 'model.pth'))
    assert cfg.load_from == str(tmp_path / 'model.pth')


@pytest.mark.parametrize('option', ['--pretrained', '--load-checkpoint'])
def test_missing_weights_are_noticed_at_once(option):
    with pytest.raises(FileNotFoundError, match=rf'{option} gone\.pth'):
        applied(option, 'gone.pth')


def test_two_kinds_of_weights_exclude_each_other(tmp_path):
    (tmp_path / 'x.pth').touch()
    file = str(tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='exclude'):
        applied('--pretrained', file, '--load_checkpoint', file)


def test_a_bad_image_is_replaced_in_training_and_refused_in_evaluation():
    cfg = applied()
    assert cfg.train_dataloader.dataset.on_bad_image == 'substitute'
    assert 'on_bad_image' not in cfg.val_dataloader.dataset


def test_strict_data_refuses_it_in_training_too():
    assert applied('--strict-data').train_dataloader.dataset.on_bad_image == 'raise'


def test_what_a_config_says_about_bad_images_is_kept():
    cfg = applied(train_dataloader__dataset__on_bad_image='raise')
    assert cfg.train_dataloader.dataset.on_bad_image == 'raise'
