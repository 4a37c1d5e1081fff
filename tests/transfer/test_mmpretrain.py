"""MMPretrain hosts our pre-training: our losses, its networks, its launcher, its tools."""

import importlib.util
import runpy
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from mmengine import Config
from mmengine.dataset import default_collate
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from a2mim import registry
from a2mim.engine.launch import load_config
from a2mim.engine.runner import ToolRunner
from a2mim.models.timm_backbone import load_pretrained
from a2mim.weights.export import export
from a2mim.weights.export.target import read_photograph, read_source
from recipes import CONFIGS, groups_of

if importlib.util.find_spec('mmpretrain') is None:
    pytest.skip('mmpretrain is not installed: [mmpretrain]', allow_module_level=True)
# What the package says about itself when it is imported is not for us.
pytestmark = [pytest.mark.transfer, pytest.mark.filterwarnings('ignore')]
FOLDER = CONFIGS / 'mmpretrain'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))
PRETRAIN, FINETUNE = (
    FOLDER / f'{name}_photos-64px.py'
    for name in ('a2mim_resnet18-slim_1xb64-cos-2e', 'finetune_resnet18-slim_1xb35-cos-2e')
)
BASE = CONFIGS / 'quickstart' / 'a2mim_resnet18_1xb64-cos-15e_photos-64px.py'
SIZES = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=128)
VIT = dict(arch=SIZES, img_size=64, patch_size=16, norm_cfg=dict(type='LN', eps=1e-6))
PLACE = 'patch_embed.projection'
TIMM_VIT = dict(embed_dim=32, depth=2, num_heads=2, img_size=64)
TABLES = dict(use_abs_pos_emb=True, use_rel_pos_bias=True)
# By kind: MMPretrain's config, the place of the mask token, and the network in timm.
NETWORKS = {
    'ResNet': (
        dict(depth=18, base_channels=16),
        'layer3',
        'resnet18',
        dict(channels=(16, 32, 64, 128)),
    ),
    'ConvNeXt': (
        dict(arch=dict(depths=[1] * 4, channels=[8, 16, 24, 32]), gap_before_final_norm=False),
        'downsample_layers.2',
        'convnext_tiny',
        dict(depths=(1,) * 4, dims=(8, 16, 24, 32)),
    ),
    'VisionTransformer': (dict(VIT, out_type='featmap'), PLACE, 'vit_tiny_patch16_224', TIMM_VIT),
    'BEiTViT': (
        dict(VIT, **TABLES, final_norm=True, out_type='featmap'),
        PLACE,
        'beit_base_patch16_224',
        dict(TIMM_VIT, **TABLES, init_values=0.1),
    ),
    'a2mim.TimmBackbone': (dict(model_name='test_resnet'), 'layer3', 'test_resnet', {}),
}
THEIR_NETWORKS = [kind for kind in NETWORKS if '.' not in kind]


@pytest.fixture(autouse=True)
def host() -> Iterator[ModuleType]:
    """The module, in the scope of MMPretrain, which is left again."""
    module = importlib.import_module('a2mim.mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        before = dict(DefaultScope._instance_dict)
        yield module
        DefaultScope._instance_dict.clear()
        DefaultScope._instance_dict.update(before)


class StepLosses(Hook):
    """The losses of every step of a run."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        self.found.append({name: value.item() for name, value in outputs.items()})


def hosted_model(algorithm: str, kind: str) -> dict:
    """The model of a config for MMPretrain."""
    options, place, _, _ = NETWORKS[kind]
    token = dict(mode='replace' if algorithm == 'SimMIM' else 'add')
    changes = dict(type=f'Hosted{algorithm}', backbone=dict(type=kind, **options))
    return {**Config.fromfile(PRETRAIN).model, **changes, 'mask_after': place, 'mask_token': token}


def our_model(algorithm: str, kind: str, folder: Path) -> dict:
    """The same for our runner, on the same network, which a file makes."""
    options, place, _, _ = NETWORKS[kind]
    if kind in THEIR_NETWORKS:
        file = folder / 'network.py'
        file.write_text(
            'from mmpretrain.registry import MODELS\n'
            f'def make():\n    return MODELS.build(dict(type="mmpretrain.{kind}", **{options}))\n'
        )
        kind, options = 'a2mim.OwnBackbone', dict(network=f'{file}:make')
    model = Config.fromfile(BASE).model
    token = dict(mode='replace' if algorithm == 'SimMIM' else 'add')
    backbone = dict(type=kind, **options, mask_after=place, mask_token=token)
    return {**model, 'type': algorithm, 'backbone': backbone}


def losses_of(cfg: Config, kind: type[Runner], state: dict, work_dir: Path) -> list[dict]:
    """The losses of two epochs of two steps, from the weights ``state``."""
    source = cfg.train_dataloader.dataset
    source = source.get('dataset', source).source
    source.update(split='val', stride=32)  # the images of some steps
    cfg.merge_from_dict(
        {
            'train_dataloader.batch_size': 28,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'param_scheduler.warmup': 0,
            'train_cfg.max_epochs': 2,
            'randomness': dict(seed=3),
        }
    )
    cfg.custom_hooks, cfg.work_dir, cfg.experiment_name = [], str(work_dir), work_dir.name
    cfg.default_hooks.pop('reconstruction', None)
    runner = kind.from_cfg(cfg)
    runner.model.load_state_dict(state)
    runner._init_model_weights = lambda: None  # those of ``state`` stay
    losses = StepLosses()
    runner.register_hook(losses)
    runner.train()
    return losses.found


@pytest.mark.parametrize('algorithm', ['A2MIM', 'SimMIM'])
@pytest.mark.parametrize('kind', ['ResNet', 'VisionTransformer', 'a2mim.TimmBackbone'])
def test_a_run_has_the_losses_of_our_runner(algorithm, kind, tmp_path):
    ours, theirs = Config.fromfile(BASE), Config.fromfile(PRETRAIN)
    ours.model, theirs.model = our_model(algorithm, kind, tmp_path), hosted_model(algorithm, kind)
    with DefaultScope.overwrite_default_scope('a2mim'):
        state = registry.MODELS.build(ours.model).state_dict()
    expected = losses_of(ours, ToolRunner, state, tmp_path / 'ours')
    found = losses_of(theirs, Runner, state, tmp_path / 'theirs')
    assert len(found) == len(expected) >= 4
    assert len({step['loss_spatial'] for step in found}) == len(found)
    for step, reference in zip(found, expected, strict=True):
        assert step == pytest.approx(reference, abs=1e-6, rel=0)


def sizes_of(groups: list[dict]) -> Counter:
    """Number of weights for each pair of learning rate and weight decay."""
    sizes = Counter()
    for group in groups:
        for parameter in group['params']:
            tensor = parameter[1] if isinstance(parameter, tuple) else parameter
            sizes[float(f'{group["lr"]:.6g}'), group['weight_decay']] += tensor.numel()
    return sizes


@pytest.mark.parametrize('name', [name for name in NAMES if name.endswith('in1k')])
def test_a_config_has_the_network_and_the_rates_of_its_recipe(name):
    """Everything else comes from the recipe, which is its ``_base_``."""
    text = (FOLDER / f'{name}.py').read_text(encoding='utf-8')
    base = Config.fromfile(FOLDER / text.partition("_base_ = ['")[2].partition("'")[0])
    theirs = Config.fromfile(FOLDER / f'{name}.py')
    assert theirs.train_dataloader.dataset.dataset == base.train_dataloader.dataset
    with torch.device('meta'):  # shapes and names: weights would take most of the time
        with DefaultScope.overwrite_default_scope('a2mim'):
            ours = registry.MODELS.build(base.model)
        with mock.patch('torch.linspace', partial(torch.linspace, device='cpu')):  # they read it
            hosted = importlib.import_module('mmpretrain.registry').MODELS.build(theirs.model)
    if name.startswith('finetune_vit'):
        engine, wrapper = importlib.import_module('mmpretrain.engine'), theirs.optim_wrapper
        constructor = engine.LearningRateDecayOptimWrapperConstructor(
            dict(type='OptimWrapper', optimizer=dict(wrapper.optimizer, fused=False)),
            wrapper.paramwise_cfg,
        )
        groups = constructor(hosted).optimizer.param_groups
    else:
        groups = groups_of(theirs, hosted)
    assert sizes_of(groups) == sizes_of(groups_of(base, ours))


@pytest.mark.parametrize('kind', THEIR_NETWORKS)
def test_weights_go_both_ways(kind, tmp_path):
    options, _, name, timm_options = NETWORKS[kind]
    theirs = importlib.import_module('mmpretrain.registry').MODELS
    model = theirs.build(hosted_model('A2MIM', kind)).eval()
    classifier = theirs.build(
        dict(type='ImageClassifier', backbone=dict(type=kind, **options), head=None)
    )
    for parameter in model.backbone.parameters():
        nn.init.normal_(parameter, std=0.05)
    classifier.backbone.load_state_dict(model.backbone.model.state_dict())
    image = torch.randn(2, 3, 64, 64)
    # A checkpoint of a hosted pre-training, or of a classifier of MMPretrain, in timm's network.
    for part in (model, classifier):
        torch.save({'state_dict': part.state_dict(), 'meta': {}}, tmp_path / 'theirs.pth')
        network = timm.create_model(name, num_classes=0, global_pool='', **timm_options).eval()
        report = load_pretrained(network, str(tmp_path / 'theirs.pth'))
        assert report.complete and report.rate == 1
        with torch.no_grad():
            found, features = network(image), model.backbone(image)
            if found.ndim == 3:
                found = found[:, 1:].transpose(1, 2).reshape(features.shape)
        torch.testing.assert_close(found, features, rtol=1e-5, atol=1e-6)
    again = theirs.build(
        dict(type=kind, **options, init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='x.pth'))
    )
    with pytest.raises(ValueError, match=f'{kind} of MMPretrain initialises itself again'):
        again.init_weights()
    # timm's network in theirs.
    plain = {k: v for k, v in timm_options.items() if k != 'channels'}
    torch.save(timm.create_model(name, num_classes=0, **plain).state_dict(), tmp_path / 'ours.pth')
    source = read_source(tmp_path / 'ours.pth', name, {**plain, 'num_classes': 0})
    check = export(source, 'mmpretrain', tmp_path / 'out.pth', read_photograph(source))
    assert f'mmpretrain.{kind} 1.' in str(check) and not check.problem


def launcher(config: Path, work_dir: Path, *options: str) -> list[str]:
    """The command line of MMPretrain's own launcher, without workers."""
    script = Path(importlib.import_module('mmpretrain').__file__).parent / '.mim/tools/train.py'
    options = (
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        *options,
    )
    return [*map(str, (script, config, '--work-dir', work_dir)), '--cfg-options', *options]


def test_its_launcher_trains_and_its_tools_take_the_result(host, tmp_path, monkeypatch):
    mmpretrain = importlib.import_module('mmpretrain')
    source = 'train_dataloader.dataset.dataset.source'
    few = f'{source}.split=val', f'{source}.stride=16'
    command = [sys.executable, *launcher(PRETRAIN, tmp_path / 'pretrain', *few)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # In this process, to save the seconds of the imports.
    given = f'model.backbone.init_cfg.checkpoint={tmp_path}/pretrain/epoch_2.pth'
    monkeypatch.setattr(sys, 'argv', launcher(FINETUNE, tmp_path / 'finetune', given))
    monkeypatch.setenv('LOCAL_RANK', '0')
    runpy.run_path(sys.argv[0], run_name='__main__')

    # Resumed by its runner, through our loader.
    cfg = Config.fromfile(tmp_path / 'pretrain' / PRETRAIN.name)
    cfg.merge_from_dict({'train_cfg.max_epochs': 3, 'resume': True, 'launcher': 'none'})
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.epoch == 3 and (tmp_path / 'pretrain' / 'epoch_3.pth').is_file()

    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    trained = str(tmp_path / 'finetune' / 'epoch_2.pth')
    model = mmpretrain.get_model(str(FINETUNE), pretrained=trained)
    by_name = mmpretrain.inference_model(FINETUNE.stem, photo, pretrained=trained)
    (found,) = mmpretrain.ImageClassificationInferencer(model)(photo)
    assert found['pred_class'] == by_name['pred_class'] and len(found['pred_scores']) == 14
    assert found['pred_score'] == pytest.approx(by_name['pred_score'])
    (features,) = mmpretrain.FeatureExtractor(model)(photo, stage='backbone')
    assert features[0].shape == (128, 2, 2)
    assert set(NAMES) <= set(mmpretrain.list_models())

    # The visualiser draws the mask over the image, and the samples hold the reconstruction.
    pretrained = mmpretrain.get_model(
        str(PRETRAIN), pretrained=str(tmp_path / 'pretrain/epoch_3.pth')
    )
    images = host.HostedDataset(cfg.train_dataloader.dataset.dataset)
    (sample,) = pretrained.test_step(default_collate([images[0]]))
    assert torch.equal(sample.image.flip(0), images[0]['inputs'])
    assert sample.reconstruction.shape == sample.visible.shape == (3, 64, 64)
    visualizer = importlib.import_module('mmpretrain.visualization').UniversalVisualizer()
    picture = visualizer.visualize_masked_image(
        sample.image.permute(1, 2, 0).numpy(), sample, alpha=1.0, out_file=str(tmp_path / 'm.png')
    )
    masked = sample.mask.bool().repeat_interleave(56, 0).repeat_interleave(56, 1).numpy()
    dark = (picture < 60).all(2)
    assert dark[masked].mean() > 0.95 > dark[~masked].mean()


class Payload:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_runs_code_is_refused_by_its_functions(tmp_path):
    path, mark = tmp_path / 'bad.pth', tmp_path / 'mark'
    torch.save({'state_dict': {}, 'meta': Payload(mark)}, path)
    with pytest.raises(Exception, match='trust-checkpoint'):
        importlib.import_module('mmpretrain').get_model(str(PRETRAIN), pretrained=str(path))
    assert not mark.exists()


def test_our_tools_name_the_launcher_that_a_config_is_for():
    with pytest.raises(ValueError, match=r'64px.py is for MMPretrain .* mim train onedl-'):
        load_config(Namespace(config=str(PRETRAIN), cfg_options={}, data_root=None))


def test_its_own_pipeline_with_our_mask(host, tmp_path):
    """Images from files, not square, through MMPretrain's data set, collation and preprocessor."""
    datasets = importlib.import_module('mmpretrain.registry').DATASETS
    cv2, rng = importlib.import_module('cv2'), np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 64, 3), dtype=np.uint8) for _ in range(2)]
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f'{i}.png'), image[..., ::-1])
    mask = dict(type='HostedMask', image_size=(32, 64), block_size=(32, 16), ratio=0.5)
    pipeline = [dict(type='LoadImageFromFile'), mask, dict(type='PackInputs')]
    options = dict(type='CustomDataset', data_root=str(tmp_path), with_label=False)
    found = datasets.build(dict(options, pipeline=pipeline))
    batch = default_collate([found[0], found[1]])
    model = importlib.import_module('mmpretrain.registry').MODELS.build(
        hosted_model('SimMIM', 'a2mim.TimmBackbone') | dict(mask_after='layer2')
    )
    ready = model.data_preprocessor(batch, True)
    pixels = model.data_preprocessor.denormalize(ready['inputs'])
    assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), np.stack(images))
    assert [int(sample.mask.sum()) for sample in batch['data_samples']] == [2, 2]
    assert batch['data_samples'][0].mask.shape == (1, 4)
    assert model(**ready, mode='loss')['loss_spatial'] > 0

    for sample in ready['data_samples']:
        del sample.mask
    with pytest.raises(ValueError, match='HostedMask'):
        model(**ready, mode='loss')
    with pytest.raises(ValueError, match=r'\(32, 64\).*image_size=\(64, 64\)'):
        host.HostedMask(image_size=64).transform({'img': images[0]})
    statistics = dict(mean=[0.0] * 3, std=[1.0] * 3)
    with pytest.raises(ValueError, match='mixup=dict'):
        host.HostedPreprocessor(batch_augments=dict(augments=[]), **statistics)


def test_labels_of_ours_reach_its_classifiers(host):
    """One class, several classes, and classes that were mixed."""
    source = dict(type='PhotoPatches', split='val', stride=56)
    data = host.HostedDataset(dict(type='ImageDataset', source=source, pipeline=[]))
    ours = data.dataset
    batch = default_collate(data.__getitems__([0, len(data) - 1]))
    assert [sample.gt_label.item() for sample in batch['data_samples']] == [0, 13]
    assert torch.equal(batch['inputs'][1].flip(0), ours[len(data) - 1]['image'])
    mixup = dict(mixup_alpha=1.0, num_classes=14, label_smoothing=0.0)
    mixing = host.HostedPreprocessor(mean=[0.0] * 3, std=[1.0] * 3, mixup=mixup)
    scores = [sample.gt_score for sample in mixing(batch, True)['data_samples']]
    assert all(score[[0, 13]].sum() == pytest.approx(1) for score in scores)
    assert 'gt_score' not in mixing(batch)['data_samples'][0]
    several = host.packed({'image': ours[0]['image'], 'label': torch.tensor([1, 0, 1])})
    assert several['data_samples'].gt_score.tolist() == [1, 0, 1]
