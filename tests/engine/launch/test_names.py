"""Misspelt names, at every place of a config."""

from pathlib import Path

import pytest
from mmengine import Config

from a2mim.engine.command_line import sentence
from a2mim.engine.config_check import check_names, check_option_names
from toy_run import toy_config

NO_DATA = Path('data')


def test_a_sound_config_passes():
    check_names(toy_config(NO_DATA))


@pytest.mark.parametrize(
    'name, value, message',
    [
        ('optim_wraper', dict(), 'did you mean optim_wrapper'),
        ('model.type', 'ImageClasifier', 'did you mean ImageClassifier'),
        ('model.head_init_stdd', 0.1, 'model.head_init_stdd.*did you mean head_init_std'),
        ('model.backbone.model_nme', 'x', 'did you mean model_name'),
        ('model.backbone.grad_checkpoint', True, 'did you mean grad_checkpointing'),
        ('train_dataloader.batchsize', 3, 'did you mean batch_size'),
        ('train_dataloader.sampler.shufle', True, 'did you mean shuffle'),
        ('train_dataloader.dataset.source.rot', 'x', 'did you mean root'),
        (
            'train_dataloader.dataset.pipeline',
            [dict(type='RandomFlipp')],
            'did you mean RandomFlip',
        ),
        ('train_dataloader.collate_fn.type', 'channels_last_collate', 'write a2mim.channels_last'),
        ('train_cfg.max_epoch', 3, 'did you mean max_epochs'),
        ('optim_wrapper.acumulative_counts', 2, 'did you mean accumulative_counts'),
        ('optim_wrapper.optimizer.learning_rate', 1, 'optimizer.learning_rate is not an argument'),
        ('param_scheduler.0.Tmax', 3, 'did you mean T_max'),
        ('default_hooks.checkpoint.max_keep_ckpt', 1, 'did you mean max_keep_ckpts'),
        ('default_hooks.logger.intervall', 1, 'did you mean interval'),
        ('val_evaluator.top', 1, 'did you mean topk'),
        ('randomness.sed', 1, 'did you mean seed'),
        ('auto_scale_lr.base_batch', 1, 'did you mean base_batch_size'),
        ('env_cfg', dict(cudnn_bench=True), 'did you mean cudnn_benchmark'),
        (
            'custom_hooks',
            [dict(type='FeatureProbeHook', neighbors=20)],
            'custom_hooks.0.neighbors .*did you mean neighbours',
        ),
        (
            'custom_hooks',
            [dict(type='FeatureProbeHook', test=dict(source=dict(type='ImageFolder', rot='x')))],
            'custom_hooks.0.test.source.rot .*did you mean root',
        ),
    ],
)
def test_a_misspelt_name_is_refused_with_what_was_meant(name, value, message):
    cfg = toy_config(NO_DATA)
    cfg.merge_from_dict({name: value})
    with pytest.raises((KeyError, TypeError), match=message):
        check_names(cfg)


def test_a_name_like_no_other_is_answered_with_the_names_there_are():
    cfg = toy_config(NO_DATA, model__colour='red')
    with pytest.raises(TypeError, match=r'it accepts .*backbone'):
        check_names(cfg)


@pytest.mark.parametrize(
    'base, child, key, path',
    [
        (
            "model = dict(type='MIMHead', spatial=dict(type='FocalL1Loss', alpha=1.0))",
            "model = dict(spatial=dict({}type='L1Loss'))",
            'model.spatial.alpha',
            'model.spatial',
        ),
        (
            "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1.0, betas=(0.9, 0.98)))",
            "optim_wrapper = dict(optimizer=dict({}type='SGD', lr=0.1))",
            'optim_wrapper.optimizer.betas',
            'optim_wrapper.optimizer',
        ),
        (
            "train_dataloader = dict(sampler=dict(type='RepeatedEpochSampler', num_repeats=3))",
            "train_dataloader = dict(sampler=dict({}type='EpochSampler'))",
            'train_dataloader.sampler.num_repeats',
            'train_dataloader.sampler',
        ),
    ],
)
def test_a_type_that_a_child_has_changed_names_the_key_left_of_the_old_one(
    tmp_path, base, child, key, path
):
    (tmp_path / 'base.py').write_text(base)
    for delete in ('', '_delete_=True, '):
        text = f"_base_ = ['base.py']\n{child.format(delete)}"
        (tmp_path / f'child{bool(delete)}.py').write_text(text)
    with pytest.raises(TypeError, match=f'{key} is not an arg.*add _delete_=True to {path}$'):
        check_names(Config.fromfile(tmp_path / 'childFalse.py'))
    check_names(Config.fromfile(tmp_path / 'childTrue.py'))


def test_what_only_the_class_refuses_is_told_the_same():
    refused = "ConstantParamScheduler.__init__() got an unexpected keyword argument 'T_max'"
    said = sentence(TypeError(refused))
    assert (
        said
        == f'{refused}; if it is left of another type in _base_, add _delete_=True to its entry'
    )
    assert '_delete_' not in sentence(TypeError(refused.replace('T_max', 'colour')))


def test_a_name_of_no_type_is_not_left_of_another():
    with pytest.raises(TypeError) as error:
        check_names(toy_config(NO_DATA, model__colour='red'))
    assert '_delete_' not in str(error.value)


@pytest.mark.parametrize(
    'name, value',
    [
        ('model.backbone.drop_path_rate', 0.1),  # for timm
        ('image_size', 224),  # a variable of the config's own
        ('train_pipeline', []),
        ('optim_wrapper.clip_grad', dict(type='value', clip_value=1)),
        ('optim_wrapper.constructor', 'ParamRuleConstructor'),
        ('optim_wrapper.paramwise_cfg', dict(rules={'bias': dict(weight_decay=0.0)})),
        ('optim_wrapper.optimizer', dict(type='timm.optim.Lamb', lr=1)),
        ('train_cfg', dict(_delete_=True, by_epoch=False, max_iters=3)),
        ('model.backbone.init_cfg', dict(type='Pretrained', checkpoint='x', anything=1)),
        ('custom_hooks', [dict(type='EMAHook', priority='NORMAL', momentum=0.1)]),
    ],
)
def test_a_name_that_something_reads_passes(name, value):
    cfg = toy_config(NO_DATA)
    cfg.merge_from_dict({name: value})
    check_names(cfg)


@pytest.mark.parametrize(
    'option, message',
    [
        ('optim_wraper.optimizer.lr', 'did you mean optim_wrapper'),
        ('modell.backbone', 'did you mean model'),
        ('default_hooks.chekpoint.interval', 'did you mean checkpoint'),
        ('quatsch', 'no name comes near'),
    ],
)
def test_an_option_that_leads_nowhere_is_refused(option, message):
    with pytest.raises(KeyError, match=message):
        check_option_names(toy_config(NO_DATA), [option])


@pytest.mark.parametrize(
    'option',
    ['compile.backend', 'default_hooks.ema.type', 'param_scheduler.0.eta_min', 'my_variable.new'],
)
def test_an_option_may_add_entries(option):
    cfg = toy_config(NO_DATA)
    cfg.my_variable = dict(old=1)
    check_option_names(cfg, [option])


def test_an_option_may_change_an_entry_of_a_list_that_another_option_gives():
    check_option_names(toy_config(NO_DATA), ['custom_hooks', 'custom_hooks.3.interval'])
    with pytest.raises(KeyError, match=r'param_scheduler is a list of 1, counted from 0'):
        check_option_names(toy_config(NO_DATA), ['param_scheduler.3.interval'])


def test_a_class_in_place_of_a_name_is_checked_too():
    cfg = Config(dict(model=dict(type=Path, pth='x')))
    check_names(cfg)  # Path spells nothing out, so that anything goes
