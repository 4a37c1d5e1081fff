"""``a2mim pretrain --data DIR`` and ``a2mim finetune --data DIR --from RUN``, to the end."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine import Config

import a2mim
from a2mim.__main__ import main as command
from a2mim.__main__ import names_config
from a2mim.engine import time_budget
from a2mim.own_data import finetune, pretrain
from a2mim.own_data.network import blocks_for_teacher, choose_outputs, choose_teacher
from toy_run import ROOT, load_tool, write_images

# Networks of a user: with stages and a head; in one Sequential; none.
NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.deep = nn.Conv2d(8, 16, 2, 2)
        self.head = nn.Linear(16, 7)

    def forward(self, image):
        return self.head(self.deep(self.stem(image).relu()).mean((2, 3)))

def net():
    return Net()

def text():
    return 'resnet18'

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
"""
SMALL = ['--backbone', 'test_convnext', '--size', '32', '--precision', 'fp32', '--batch-size', '4']


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working directory with a folder of twelve images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('a2mim.own_data.plan.workers', lambda: 0)
    write_images(tmp_path / 'photos', 5)
    return ['--data', 'photos', *SMALL]


def weights(file: str) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=False)['state_dict']


def same(one: str, other: str) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(first[k].equal(second[k]) for k in first)


@pytest.mark.integration
def test_the_config_repeats_the_run_and_resume_checks_its_options(photos, capsys):
    pretrain.main([*photos, '--epochs', '2', '--out', 'o'])
    said = capsys.readouterr().out
    for name in ('images', 'channels', 'scale', 'size', 'backbone', 'mask', 'batch', 'length'):
        assert re.search(rf'^{name} +\S', said, re.MULTILINE), name
    ends = r'probe/effective_rank: [\d.]+ at epoch 0, [\d.]+ at epoch 2$'
    assert len(re.findall(ends, said, re.MULTILINE)) == 1
    assert 'estimate: about' in said and max(map(len, said.splitlines())) <= 160
    config = Path('o/config.py').read_text()
    assert config.startswith('"""A2MIM') and '# mask: ' in config
    load_tool('train').main(['o/config.py', '--work-dir', 'again'])
    assert same('o/latest.pth', 'again/latest.pth')

    for changed in (['--size', '64'], ['--epochs', '3']):
        with pytest.raises(SystemExit) as end:
            pretrain.main([*photos, '--epochs', '2', '--out', 'o', '--resume', *changed])
        assert end.value.code == 2 and changed[0] in capsys.readouterr().err
    pretrain.main([*photos, '--epochs', '2', '--out', 'o', '--resume', 'auto'])
    assert 'complete: 2 of 2 epochs' in capsys.readouterr().out
    assert Path('o/config.py').read_text() == config


@pytest.mark.integration
def test_spark_masks_features_of_the_output_and_its_config_repeats_the_run(photos, capsys):
    pretrain.main([*photos, '--method', 'spark', '--epochs', '1', '--out', 'o'])
    assert '10 of 4×4 blocks of 8 pixels, which the encoder does not see' in capsys.readouterr().out
    load_tool('train').main(['o/config.py', '--work-dir', 'again'])
    assert same('o/latest.pth', 'again/latest.pth')
    assert Path('o/reconstruction/epoch_1.png').is_file()
    finetune.main(['--data', 'photos', '--from', 'o', '--epochs', '1', '--out', 'f'])
    assert 'accuracy/top1' in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.parametrize(('slower', 'length'), [(1, 33), (4, 28)])
def test_a_time_ends_a_run_and_the_config_states_the_length(
    photos, monkeypatch, slower, length, capsys
):
    clock = SimpleNamespace(now=0.0, step=1.0)

    def tick() -> float:
        clock.now += clock.step
        return clock.now

    monkeypatch.setattr(time_budget, 'time', SimpleNamespace(time=tick))
    monkeypatch.setattr('a2mim.own_data.plan.process_start', lambda: -time_budget.LEAVING)
    monkeypatch.setattr('a2mim.own_data.plan.time', SimpleNamespace(time=lambda: 0.0))
    monkeypatch.setattr('a2mim.own_data.plan.step_seconds', lambda *_: 1.0)
    fix = time_budget.TimeBudgetHook._fix

    def slow(hook, runner, steps):
        fix(hook, runner, steps)
        clock.step = slower

    monkeypatch.setattr(time_budget.TimeBudgetHook, '_fix', slow)
    pretrain.main([*photos, '--time', '43s', '--out', 'o'])
    cfg = Config.fromfile('o/config.py')
    # A second a step: the anneal begins after 26 of 33 steps; some are cut if it is slower.
    assert (cfg.train_cfg.max_iters, cfg.param_scheduler.end) == (length, 33)
    assert ('the time is over' in capsys.readouterr().out) == (slower > 1)
    assert all(hook.type != 'TimeBudgetHook' for hook in cfg.custom_hooks)
    found = torch.load('o/latest.pth', weights_only=False)
    assert found['meta']['iter'] == length
    assert 'TimeBudgetHook' not in found['meta']['cfg']
    if slower == 1:
        load_tool('train').main(['o/config.py', '--work-dir', 'again'])
        assert same('o/latest.pth', 'again/latest.pth')
    else:  # the end of the last epoch is missing, and the run is complete
        pretrain.main([*photos, '--time', '43s', '--out', 'o', '--resume'])
        assert torch.load('o/latest.pth', weights_only=False)['meta']['iter'] == length


@pytest.mark.integration
def test_fine_tuning_takes_classes_from_the_folders_and_the_rest_from_the_run(photos, capsys):
    pretrain.main([*photos, '--epochs', '1', '--out', 'o', '--method', 'simmim'])
    before = Config.fromfile('o/config.py')
    options = ['--from', 'o', '--epochs', '1', '--precision', 'fp32', '--batch-size', '4']
    for part in ('train', 'val'):
        write_images(Path('split', part), 5)
    for data, out in (('split', 'f'), ('photos', 'g')):
        capsys.readouterr()
        finetune.main(['--data', data, *options, '--out', out])
        cfg = Config.fromfile(f'{out}/config.py')
        assert cfg.model.backbone.num_classes == 3
        assert cfg.model.backbone.model_name == 'test_convnext'
        assert cfg.model.data_preprocessor.mean == before.model.data_preprocessor.mean
        assert cfg.train_dataloader.dataset.pipeline[0].size == 32
        assert 'accuracy/top1' in capsys.readouterr().out
    lists = [Path('g', name).read_text().splitlines() for name in finetune.LISTS]
    assert [*map(len, lists)] == [12, 3] and not {*lists[0]} & {*lists[1]}
    for run in ('f', 'g'):
        classes = a2mim.init_model(f'{run}/config.py', f'{run}/latest.pth').dataset_meta['classes']
        assert [*classes] == sorted(path.name for path in Path('photos').iterdir())
    load_tool('train').main(['g/config.py', '--work-dir', 'again'])
    assert same('g/latest.pth', 'again/latest.pth')


@pytest.mark.integration
def test_mae_trains_draws_and_exports(photos, capsys):
    words = ['--data', 'photos', '--method', 'mae', '--backbone', 'test_vit', '--size', '32']
    short = ['--epochs', '1', '--batch-size', '4', '--precision', 'fp32', '--out', 'o']
    pretrain.main([*words, *short])
    said = capsys.readouterr().out
    assert '48 of 8×8 blocks of 4 pixels, which the encoder does not see' in said
    assert Path('o/config.py').read_text().startswith('"""MAE pre-training of test_vit')
    assert Path('o/reconstruction/epoch_1.png').stat().st_size > 1000
    model = a2mim.load_model('o/latest.pth')
    pictures = a2mim.reconstruct(model, next(Path('photos').rglob('*.png')))
    assert pictures['reconstruction'].shape == (32, 32, 3) and model.input_spec.ratio == 0.75
    assert (pictures['mask'] > 0).mean() == 0.75
    command(['extract', 'o/latest.pth', 'backbone.pth'])
    network = timm.create_model('test_vit', img_size=32, patch_size=4, num_classes=0)
    network.load_state_dict(torch.load('backbone.pth'))
    network = dict(type='TimmBackbone', model_name='test_vit', img_size=32, patch_size=4)
    assert finetune.classifier(Config.fromfile('o/config.py').model, 32)['backbone'] == network


@pytest.mark.integration
def test_features_are_predicted_and_drawn(photos, capsys):
    words = ['--data', 'photos', '--method', 'features', '--backbone', 'resnet10t', '--size', '64']
    short = ['--epochs', '1', '--batch-size', '4', '--precision', 'fp32', '--out', 'o']
    pretrain.main([*words, *short])
    assert 'reconstruction of 4 images' in capsys.readouterr().out
    assert Path('o/reconstruction/epoch_1.png').exists()
    assert Path('o/config.py').read_text().startswith('"""FeatureMIM pre-training of resnet10t')
    command(['extract', 'o/latest.pth', 'backbone.pth'])
    trained = a2mim.load_model('o/latest.pth').backbone.model.state_dict()
    assert torch.load('backbone.pth')['conv1.0.weight'].equal(trained['conv1.0.weight'])


def test_a_teacher_is_named_and_takes_images_of_the_size(photos):
    made = pretrain.parser()
    words = ['--method', 'features', '--teacher', 'vit_tiny_patch16_224', *SMALL, '--out', 't']
    pretrain.prepare(made, made.parse_args(['--data', 'photos', *words]), 'photos')
    model = Config.fromfile('t/config.py').model
    wanted = dict(type='TimmBackbone', model_name='vit_tiny_patch16_224', pretrained=True)
    assert model.teacher == wanted | dict(img_size=32) and 'decay' not in model
    for size, blocks in ((64, 4), (224, 7)):  # the network alone would have 8 and 7 along a side
        choice = choose_outputs('resnet18', size, 3)
        teacher = choose_teacher('vit_tiny_patch16_224', size, 3)
        fitted = blocks_for_teacher(choice, teacher, size, 3)
        assert (fitted.blocks, fitted.block) == (blocks, size // blocks)
    choice = choose_outputs('resnet18', 224, 3)
    with pytest.raises(ValueError, match=r'16×16 features of 224 pixels.* 7×7 mask blocks'):
        blocks_for_teacher(choice, choose_teacher('vit_small_patch14_dinov2', 224, 3), 224, 3)


def test_a_network_of_ones_own_is_trained_from_its_file(photos, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['a2mim pretrain'])
    Path('net.py').write_text(NETWORK)
    words = ['--data', 'photos', '--backbone', 'net.py:net', '--size', '32', '--out', 'own']
    pretrain.main([*words, '--epochs', '2', '--batch-size', '4', '--precision', 'fp32'])
    said = capsys.readouterr().out
    assert '8×8 blocks of 4 pixels; token after stem' in said
    assert 'next: a2mim extract' in said and 'a2mim finetune' not in said
    with pytest.raises(SystemExit):
        finetune.main(['--data', 'photos', '--from', 'own'])
    assert 'holds a network of your own' in capsys.readouterr().err
    backbone = Config.fromfile('own/config.py').model.backbone
    assert backbone.network == f'{Path.cwd()}/net.py:net'
    state = weights('own/latest.pth')
    assert state['backbone.model.stem.weight'].shape == (8, 3, 4, 4)
    # The file of weights does not run what it names; its config, given, does.
    with pytest.raises(ValueError, match='not run on the word of a checkpoint'):
        a2mim.load_model('own/latest.pth')
    model = a2mim.load_model('own/latest.pth', config='own/config.py')
    assert model.backbone.model.stem.weight.equal(state['backbone.model.stem.weight'])


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ([], 'give a CONFIG, or a folder of images with --data DIR'),
        (['--data', 'nowhere'], '--data nowhere is not a folder'),
        (['--data', 'empty'], 'no image in'),
        (['--data', 'photos', '--time', '4'], "'4' is no time"),
        (['--data', 'photos', '--time', '4h', '--epochs', '3'], 'exclude each other'),
        (['--data', 'photos', '--seed', '-1'], "'-1' is no whole number from 0 to"),
        (['--data', 'photos', '--epochs', '0'], "'0' is no number from 1 on, nor 'auto'"),
        (['--data', 'photos', '--backbone', 'resnet_18'], 'resnet18'),
        (['--data', 'photos', '--method', 'mae', '--backbone', 'resnet18'], '--method a2mim'),
        (['--data', 'photos', '--method', 'mae', '--backbone', 'net.py:net'], 'not of Net'),
        (['--data', 'photos', '--backbone', 'nowhere.py:net'], 'there is no file'),
        (['--data', 'photos', '--backbone', 'net.py:other'], "has no function 'other'"),
        (['--data', 'photos', '--backbone', 'net.py:text'], 'text() gives a str, no nn.Module'),
        (['--data', 'photos', '--backbone', 'net.py:flat'], 'takes no images of 3 channels and 32'),
        (['--data=photos', '--backbone=net.py:flat', '--size=64'], 'no module of Sequential'),
        (['--data', 'photos', '--method', 'spark', '--backbone', 'test_vit'], 'mae'),
        (['--data', 'photos', '--teacher', 'resnet18'], 'is for --method features'),
        (['--data', 'photos', '--method', 'features', '--teacher', 'resnet_18'], 'resnet18'),
        (['--data', 'photos', '--method', 'spark', '--backbone', 'net.py:net'], 'timm'),
        (['--data', 'photos', *SMALL, '--batch-size', '16'], 'give 1 to 15'),
        (['--data', 'photos', *SMALL, '--batch-size', '3', '--devices', '2'], 'give 2 or 4'),
        (['--data', 'photos', '--backbone', 'net.py'], 'write net.py:FUNCTION'),
        (['--data', 'photos', '--backbone', 'net.py:net', '--channels', '1'], '--channels and'),
        (['--data', 'photos', '--out', 'photos/o'], 'would become images'),
        (['--data', 'photos', '--out', 'net.py/o'], 'net.py is a file; give a folder'),
        (['--data', 'photos', '--out='], '--out= is given an empty word'),
        (['--data', 'photos', '--log', 'foo'], '--log foo is unknown'),
        (['--data', 'photos', '--probe', 'empty'], "no image in root='empty'"),
        (['--data', 'photos', '--from', 'photos'], '--from photos is a folder; give a file'),
        (['--data', 'photos', '--gpus', '2'], 'write --devices 2'),
        (['--data-dir=photos'], 'write --data photos'),
        (['--data', 'photos', '--out', 'used'], '--resume continues it, or give another --out'),
        (['--data', 'photos', '--out', 'edited'], 'a2mim pretrain edited/config.py'),
        (['--data', 'photos', '--lr', '1'], '--lr is no option without a config'),
        (['--data', 'photos', '--siez', '1'], 'did you mean --size'),
        (['--data', 'shards'], 'recipes cp'),
    ],
)
def test_a_mistake_is_one_line(photos, words, said, capsys):
    for name in ('empty', 'used', 'edited', 'shards'):
        Path(name).mkdir()
    Path('used/epoch_3.pth').touch()
    Path('net.py').write_text(NETWORK)
    Path('edited/config.py').write_text('model = dict()\n')
    Path('shards/0.tar').touch()
    with pytest.raises(SystemExit) as end:
        pretrain.main(words)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count('\n') == 1 and error.startswith('error: ') and said in error


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--data', 'photos'], '--from RUN_OR_FILE'),
        (
            ['--data', 'photos', '--from', 'nowhere'],
            '--from nowhere: there is no such file',
        ),
        (['--data', 'photos', '--from', 'photos'], 'photos is a folder; give a file'),
    ],
)
def test_a_mistake_of_fine_tuning_is_one_line(photos, words, said, capsys):
    with pytest.raises(SystemExit) as end:
        finetune.main(words)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count('\n') == 1 and said in error


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        ('c.py', True),
        ('misspelt --data photos', True),
        ('--amp c.py', True),
        ('--data photos --work-dir o c.yaml', True),
        ('', False),
        ('--help', False),
        ('--data photos --backbone resnet18', False),
        ('--data photos --backbone net.py', False),
        ('--data photos --from run.json', False),
    ],
)
def test_a_config_is_told_from_a_folder(words, named):
    assert names_config(words.split()) == named


@pytest.mark.parametrize(
    ('option', 'value', 'remedy'),
    [
        ('--epochs', '5', 'train_cfg.max_epochs=5'),
        ('--batch-size', '8', 'train_dataloader.batch_size=8'),
        ('--backbone', 'x', 'model.backbone.model_name=x'),
        ('--size', '64', 'train_dataloader.dataset.mask.image_size=64'),
        ('--time', '2m', '--data DIR --time 2m'),
    ],
)
def test_an_option_of_the_folder_beside_a_config_says_what_to_write(
    option, value, remedy, capsys, monkeypatch
):
    monkeypatch.setattr(sys, 'argv', ['a2mim'])
    monkeypatch.setitem(sys.modules, '__main__', sys.modules['__main__'])
    with pytest.raises(SystemExit) as end:
        command(['pretrain', 'c.py', option, value])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count('\n') == 1 and remedy in error


@pytest.mark.integration
def test_the_command_in_a_process_of_its_own(tmp_path):
    write_images(tmp_path / 'photos', 5)

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, '-m', 'a2mim', *words],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert '\r' not in done.stdout and max(map(len, done.stdout.splitlines())) <= 160
        return done.stdout

    said = call('pretrain', '--data', 'photos', *SMALL, '--epochs', '1', '--out', 'o', '--dry-run')
    assert said.splitlines()[-1].endswith('dry run: the config is in o/config.py')
    assert not [*tmp_path.glob('o/*.pth')]
    said = call('pretrain', '--data', 'photos', *SMALL, '--epochs', '1', '--out', 'o')
    assert 'next: a2mim extract o/latest.pth o/backbone.pth' in said
    assert '"""' in (tmp_path / 'o/config.py').read_text()[:4]
    said = call('finetune', '--data', 'photos', '--from', 'o', '--epochs', '1', '--out', 'f')
    assert 'next: a2mim test f/config.py f/latest.pth' in said
