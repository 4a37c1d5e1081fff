"""The command lines of a transfer, on a model of seconds that needs neither of the packages."""

from pathlib import Path
from unittest import mock

import pytest
import timm
import torch
from mmengine import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from a2mim.engine.processes import WorkDirLock
from a2mim.engine.runner import ToolRunner
from a2mim.engine.sync_batch_norm import JointBatchNorm
from a2mim.registry import MODELS
from a2mim.transfer import test as evaluation
from a2mim.transfer import train
from a2mim.transfer.launch import build_train_runner, parse_test_args, parse_train_args
from interruption import KillAfterFirstEpoch, KilledError
from toy_run import read_scalars, toy_config, write_images

pytestmark = pytest.mark.integration


@MODELS.register_module(force=True)
class PooledMaps(BaseModel):
    """A classifier on the maps of a backbone, in the place of a detector."""

    def __init__(self, backbone: dict, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.norm = nn.SyncBatchNorm(sum(self.backbone.out_channels))
        self.classifier = nn.Linear(sum(self.backbone.out_channels), 3)

    def forward(self, image: Tensor, label: Tensor, mode: str) -> dict | list:
        pooled = torch.cat([features.mean((2, 3)) for features in self.backbone(image)], 1)
        scores = self.classifier(self.norm(pooled))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(scores, label))
        return [dict(scores=score, label=true) for score, true in zip(scores, label, strict=True)]


@pytest.fixture(scope='module')
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('trunk') / 'trunk.pth'
    model = timm.create_model('test_convnext', num_classes=0, global_pool='')
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A config in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for split, images in (('train', 4), ('val', 2)):
        write_images(tmp_path / 'data' / split, images)
    cfg = toy_config(tmp_path / 'data')
    cfg.model.pop('loss')
    cfg.model.type = 'PooledMaps'
    cfg.model.backbone = dict(
        type='TimmBackbone',
        model_name='test_convnext',
        out_indices=(0, 1),
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    )
    cfg.train_cfg.max_epochs = 2
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = {}
    cfg.custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
    (tmp_path / 'configs').mkdir()
    cfg.dump('configs/toy.py')
    return 'configs/toy.py'


def refusal(argv: list[str], capsys: pytest.CaptureFixture) -> str:
    """The one line on stderr that a wrong command line ends with."""
    with pytest.raises(SystemExit) as exit_info:
        train.main(argv)
    assert exit_info.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_options_may_stand_among_the_entries_of_the_config():
    args = parse_train_args(['a.py', 'b.pth', 'x.y=3', '--resume', 'z=[1,2]', 'w=hi'])
    assert (args.config, args.pretrain, args.resume) == ('a.py', 'b.pth', 'auto')
    assert args.cfg_options == {'x.y': 3, 'z': [1, 2], 'w': 'hi'}
    assert parse_test_args(['a.py', 'b.pth']).cfg_options == {}


@pytest.mark.parametrize('argv', [['a.py'], ['a.py', 'b.pth', 'word'], ['a.py', 'b', '--word']])
def test_a_wrong_command_line_is_a_usage_error(argv, capsys):
    assert 'error: ' in refusal(argv, capsys)


def test_every_pretrain_has_a_folder_of_its_own(config, trunk):
    runner = build_train_runner(parse_train_args([config, str(trunk)]), WorkDirLock())
    assert Path(runner.work_dir) == Path('work_dirs/toy/trunk.pth').absolute()


def test_the_weights_of_the_trunk_are_there_before_training(config, trunk):
    runner = build_train_runner(parse_train_args([config, str(trunk)]), WorkDirLock())
    taken = runner.model.backbone.model.state_dict()
    for name, tensor in torch.load(trunk, weights_only=True).items():
        assert torch.equal(taken[name], tensor), name


def test_a_run_trains_resumes_and_is_evaluated(config, trunk):
    argv = [config, str(trunk)]
    runner = build_train_runner(parse_train_args(argv), WorkDirLock())
    runner.register_hook(KillAfterFirstEpoch())
    with pytest.raises(KilledError):
        runner.train()
    train.main([*argv, '--resume'])
    steps = [entry['step'] for entry in read_scalars(Path(runner.work_dir)) if 'loss' in entry]
    assert steps == [1, 2, 3, 4, 5, 6]
    metrics = evaluation.main([config, f'{runner.work_dir}/latest.pth'])
    validated = [entry for entry in read_scalars(Path(runner.work_dir)) if 'accuracy/top1' in entry]
    assert metrics['accuracy/top1'] == pytest.approx(validated[-1]['accuracy/top1'])


def test_a_second_run_does_not_mix_with_the_first(config, trunk, capsys):
    train.main([config, str(trunk), 'train_cfg.max_epochs=1'])
    assert 'holds the checkpoints of a run' in refusal([config, str(trunk)], capsys)


def test_a_wrong_trunk_is_refused_before_the_data_is_read(config, tmp_path, capsys):
    model = timm.create_model('test_resnet', num_classes=0)
    torch.save(model.state_dict(), tmp_path / 'other.pth')
    for split in ('train', 'val'):
        (tmp_path / 'data' / split).rename(tmp_path / f'gone_{split}')
    message = refusal([config, 'other.pth'], capsys)
    assert message.startswith('error: ')
    assert 'other.pth' in message
    assert not list(tmp_path.rglob('epoch_*.pth'))


def test_a_missing_trunk_is_refused(config, capsys):
    message = refusal([config, 'nowhere.pth'], capsys)
    assert message == 'error: PRETRAIN nowhere.pth: there is no such file'


def test_a_missing_package_is_named_with_its_remedy(tmp_path, capsys):
    path = tmp_path / 'config.py'
    path.write_text("_base_ = ['mmpose::body/a.py']\n")
    message = refusal([str(path), 'none'], capsys)
    assert 'mmpose is not installed' in message
    assert 'pip install -e ".[det]"' in message


def test_a_misspelt_entry_is_refused(config, trunk, capsys):
    message = refusal([config, str(trunk), 'train_dataloader.batch_sise=2'], capsys)
    assert 'did you mean batch_size' in message


def test_fewer_processes_accumulate_to_the_batch_of_the_learning_rate(config, trunk):
    argv = [config, str(trunk), 'auto_scale_lr.base_batch_size=12']
    runner = build_train_runner(parse_train_args(argv), WorkDirLock())
    assert runner.cfg.optim_wrapper.accumulative_counts == 3
    assert runner.cfg.train_dataloader.batch_size == 4


def test_norms_of_several_processes_are_synchronised_on_a_cpu_too():
    runner = object.__new__(ToolRunner)
    runner.cfg, runner._distributed = Config(), True
    model = nn.Sequential(nn.SyncBatchNorm(3), nn.BatchNorm2d(3))
    with mock.patch.object(Runner, 'wrap_model', lambda self, cfg, model: model):
        wrapped = runner.wrap_model(None, model)
    assert [type(layer) for layer in wrapped] == [JointBatchNorm, nn.BatchNorm2d]
    with torch.no_grad():
        assert wrapped(torch.zeros(2, 3, 4, 4)).shape == (2, 3, 4, 4)
