"""What a person may get wrong in a config or on the command line: one line, and exit code 2."""

from pathlib import Path

import pytest

from a2mim.engine.command_line import config_file
from a2mim.weights.released import config_path
from toy_run import load_tool, toy_config, write_images

BREAKS = {
    'batch of none': (['train_dataloader.batch_size=0'], 'train_dataloader.batch_size=0 must be'),
    'batch of less': (['train_dataloader.batch_size=-4'], 'train_dataloader.batch_size=-4 must be'),
    'half a batch': (['train_dataloader.batch_size=2.5'], 'batch_size=2.5 must be a whole number'),
    'a word as batch': (['train_dataloader.batch_size=all'], "batch_size='all' must be"),
    'validation batch': (['val_dataloader.batch_size=0'], 'val_dataloader.batch_size=0 must be'),
    'workers': (['train_dataloader.num_workers=-1'], 'num_workers=-1 must be'),
    'rate': (['optim_wrapper.optimizer.lr=1e38'], 'optim_wrapper.optimizer.lr=1e+38 must be'),
    'rate, nan': (['optim_wrapper.optimizer.lr=nan'], 'optim_wrapper.optimizer.lr=nan must be'),
    'rate, word': (['optim_wrapper.optimizer.lr=high'], "optim_wrapper.optimizer.lr='high' must"),
    'epochs': (['train_cfg.max_epochs=ten'], "train_cfg.max_epochs='ten' must be a whole number"),
    'epochs of None': (['train_cfg.max_epochs=None'], 'train_cfg.max_epochs=None must be'),
    'no epochs': (['train_cfg.max_epochs=0'], 'train_cfg.max_epochs=0 must be'),
    'accumulation': (['optim_wrapper.accumulative_counts=0'], 'accumulative_counts=0 must be'),
    'base batch': (['auto_scale_lr.base_batch_size=0'], 'base_batch_size=0 must be'),
    'hook as text': (['custom_hooks=EarlyStoppingHook'], "custom_hooks='EarlyStoppingHook' must"),
    'hook by index': (['custom_hooks.0.type=EarlyStoppingHook'], 'must be a list of dicts'),
    'hooks of text': (['custom_hooks=[EarlyStoppingHook]'], 'must be a list of dicts'),
    'model': (['model=resnet50'], "model='resnet50' must be a dict"),
    'training': (['train_cfg=5'], 'train_cfg=5 must be a dict'),
    'no training': (['optim_wrapper=None'], 'it has no optim_wrapper'),
    'list of loaders': (['train_dataloader=[1]'], 'error: '),
    'model without type': (['model=dict(a=1)'], 'error: '),
    'list for a dict': (['model.backbone=[resnet50]'], 'error: '),
    'text for a dict': (['model.data_preprocessor=a'], 'error: '),
    'schedule': (['param_scheduler=cosine'], 'error: '),
    'index': (['param_scheduler.7.T_max=3'], 'error: '),
    'deeper than a number': (['train_cfg.max_epochs.x=3'], 'error: '),
}


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('A2MIM_TRACEBACK', raising=False)
    write_images(Path('train'), 4)
    write_images(Path('val'), 2)
    toy_config(Path()).dump(f'{tmp_path.name}.py')
    return f'{tmp_path.name}.py'


def refusal(capsys, tool: str, arguments: list[str]) -> str:
    """The only line that a tool says before it exits with code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        load_tool(tool).main(arguments)
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith('error: ') and said.count('\n') == 1, said
    return said


@pytest.mark.parametrize('options, words', BREAKS.values(), ids=BREAKS)
def test_a_wrong_value_is_named(config, capsys, options, words):
    assert words in refusal(capsys, 'train', [config, '--cfg-options', *options])


@pytest.mark.parametrize(
    'name, value',
    [('WORLD_SIZE', 'x'), ('WORLD_SIZE', '0'), ('LOCAL_RANK', 'x'), ('RANK', '-1'), ('RANK', '')],
)
def test_a_variable_that_is_no_number_is_named(config, capsys, monkeypatch, name, value):
    for variable, whole in (('WORLD_SIZE', '1'), ('LOCAL_RANK', '0'), ('RANK', '0')):
        monkeypatch.setenv(variable, whole)
    monkeypatch.setenv(name, value)
    said = refusal(capsys, 'train', [config, '--launcher', 'pytorch'])
    assert f'{name}={value!r}, no number' in said


SET = '--cfg-options'
QUICK = 'a2mim_resnet18_1xb64-cos-15e_photos-64px'
BATCH = ['train_dataloader.batch_size=32', 'train_dataloader.drop_last=True']
LAST_MILE = {
    'blank for =': ([SET, 'train_cfg.max_epochs', '5'], 'write train_cfg.max_epochs=5'),
    'blanks around =': ([SET, 'train_cfg.max_epochs', '=', '5'], 'write train_cfg.max_epochs=5'),
    'blank before =': ([SET, 'a=1', 'optim_wrapper.optimizer.lr', '=1e-3'], 'optimizer.lr=1e-3'),
    'blanks in a list': ([SET, 'm.mean=[1,', '2,', '3]'], "quote the whole option: 'm.mean=[1, 2,"),
    'blanks in a dict': ([SET, 'a=dict(b=1,', 'c=2)', 'd=3'], "option: 'a=dict(b=1, c=2)'"),
    'a word for a number': ([SET, 'train_cfg.max_epochs=ten'], "train_cfg.max_epochs='ten' must"),
    'a word in a hook': (
        [SET, 'default_hooks.checkpoint.interval=ten'],
        "default_hooks.checkpoint.interval='ten' must be a number",
    ),
    'leaf': ([SET, 'max_epochs=5'], 'did you mean train_cfg.max_epochs?'),
    'leaf, deeper': ([SET, 'lr=5'], 'did you mean optim_wrapper.optimizer.lr?'),
    'leaf of two': ([SET, 'optimizer.lr=5'], 'did you mean optim_wrapper.optimizer.lr?'),
    'no list': ([SET, 'optim_wrapper.0.type=A'], 'is no list; did you mean optim_wrapper.type?'),
    'no entry': ([SET, 'param_scheduler.7.T_max=3'], 'param_scheduler is a list of 1, counted'),
    'a list': ([SET, 'param_scheduler.T_max=3'], 'param_scheduler.0.T_max'),
    'no entry, deeper': (
        [SET, 'train_dataloader.dataset.pipeline.9.size=3'],
        'train_dataloader.dataset.pipeline is a list of',
    ),
    'type in small letters': (
        [SET, 'optim_wrapper.optimizer.type=Adamw'],
        "'Adamw' is not a registered name; did you mean AdamW?",
    ),
    'loggers as text': ([SET, 'visualizer.vis_backends=wandb'], "'wandb' must be a list of dicts"),
    'blanks between loggers': (['--log', 'tensorboard, wandbb'], '--log wandbb is unknown'),
    'misspelt leaf': ([SET, 'max_epoch=5'], 'did you mean train_cfg.max_epochs?'),
    'leaf not given': ([SET, 'accumulative_counts=2'], 'mean optim_wrapper.accumulative_counts?'),
    'no batch': (
        [SET, *BATCH, 'auto_scale_lr.base_batch_size=32'],
        '12 images do not fill one batch of 32 in each process: use more images, or a smaller '
        'batch with --cfg-options train_dataloader.batch_size=12 --auto-scale-lr',
    ),
    'no batch, scaled': (
        ['--auto-scale-lr', SET, *BATCH],
        'train_dataloader.batch_size=12\n',
    ),
    'no update': (
        [SET, 'optim_wrapper.accumulative_counts=9', 'auto_scale_lr=None'],
        'or set --cfg-options optim_wrapper.accumulative_counts=3\n',
    ),
    'no batch at all': ([SET, 'train_dataloader.batch_size=0'], 'batch_size=0 must be'),
    'rate': (['--lr', '1e-3'], 'write --cfg-options optim_wrapper.optimizer.lr=1e-3'),
    'epochs': (['--epochs=3'], 'write --cfg-options train_cfg.max_epochs=3'),
    'batch': (['--batch_size', '3'], 'write --cfg-options train_dataloader.batch_size=3'),
    'gpus': (['--gpus', '2'], 'write bash tools/dist_train.sh CONFIG 2'),
    'empty variable': (['--data', '', SET, 'a=1'], '--data is given an empty word'),
    'folder of weights': (['--pretrained', 'train'], 'train is a folder; give a file'),
    'misspelt option': (['--auto-resme'], 'did you mean --auto-resume?'),
    'extra word': (['5'], "'5' belongs to no option"),
    'no package': (
        [SET, 'visualizer.vis_backends=[dict(type="AimVisBackend")]'],
        'pip install aim',
    ),
    'logger': (['--log', 'tensorboard,wandbb'], '--log wandbb is unknown; it takes tensorboard'),
    'logger, no package': (['--log', 'dvclive'], 'pip install dvclive'),
    'no images': (
        [SET, 'train_dataloader.dataset.source.root=gone'],
        'gone, which is not a folder',
    ),
    'data root': ([SET, 'val_dataloader.dataset.source.root=gone'], ': --data-root DIR\n'),
}


@pytest.mark.parametrize('arguments, words', LAST_MILE.values(), ids=LAST_MILE)
def test_a_mistake_has_its_remedy(config, capsys, monkeypatch, arguments, words):
    monkeypatch.setattr('a2mim.engine.loggers.find_spec', lambda name: None)
    assert words in refusal(capsys, 'train', [config, *arguments])


@pytest.mark.parametrize('tool, more', [('train', []), ('test', ['latest.pth'])])
@pytest.mark.parametrize('name', [QUICK[:-1], QUICK[:30], f'quickstart/{QUICK}.py'])
def test_a_config_that_is_not_there_has_a_near_one(config, capsys, tool, more, name):
    assert f'did you mean {QUICK}' in refusal(capsys, tool, [name, *more])


@pytest.mark.parametrize(
    'name, words', [('train', 'for one of images: --data train'), ('zz', 'no such file; give the')]
)
def test_a_config_that_is_none_has_a_remedy(config, capsys, name, words):
    assert words in refusal(capsys, 'train', [name])


@pytest.mark.parametrize('name', [QUICK, f'{QUICK}.py'])
def test_the_bare_name_of_a_recipe_is_the_recipe(name):
    assert config_file(name) == str(config_path(f'quickstart/{QUICK}'))


def test_a_local_rank_that_is_no_number_is_named_without_a_launcher_too(
    config, capsys, monkeypatch
):
    monkeypatch.setenv('LOCAL_RANK', 'x')
    assert "LOCAL_RANK='x', no number" in refusal(capsys, 'train', [config])


LOGS = {
    'step is text': '{"step": "one", "iter": 1, "loss": 1.0}\n',
    'step is a list': '{"step": [1], "iter": 1, "loss": 1.0}\n',
    'epoch is text': '{"mode": "train", "epoch": "a", "iter": 1, "loss": 1.0}\n',
    'no epoch': '{"mode": "train", "iter": 1, "loss": 1.0}\n',
    'loss is a list': '{"step": 1, "iter": 1, "loss": [1.0]}\n',
    'deep': '{"step": ' + '[' * 10**5 + ']' * 10**5 + '}\n',
    'not utf-8': '\xff\xfe',
}


@pytest.mark.parametrize('text', LOGS.values(), ids=LOGS)
@pytest.mark.parametrize('task', ['plot_curve', 'cal_train_time'])
def test_a_log_of_other_content_is_refused(tmp_path, monkeypatch, capsys, text, task):
    monkeypatch.chdir(tmp_path)
    Path('scalars.json').write_bytes(text.encode('latin-1'))
    said = refusal(capsys, 'analysis_tools/analyze_logs', [task, 'scalars.json'])
    assert 'scalars' in said or 'no log has the key' in said
