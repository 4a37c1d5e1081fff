"""What a run tells of its features: without labels, by classes, in a picture, and resumed."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.runner import Runner
from PIL import Image

from a2mim.engine.command_line import add_common_options, add_train_options, apply_train_options
from a2mim.engine.pictures import draw_probes
from a2mim.evaluation import FeatureProbeHook, UnlabelledProbeHook, effective_rank
from a2mim.evaluation.epoch_probe import masked_errors
from a2mim.evaluation.feature_probe import halves
from a2mim.registry import DATASETS
from toy_run import load_tool, read_scalars, toy_config, write_images


@pytest.mark.parametrize(
    ('features', 'rank'),
    [
        (np.eye(7), 7.0),
        (np.outer(np.arange(1, 6), np.ones(9)), 1.0),
        (np.diag([3.0, 1.0]), np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4))),
        (np.zeros((3, 4)), 1.0),
        (np.array([[1.0, np.nan]]), np.nan),
    ],
)
def test_effective_rank_is_the_exponential_of_the_entropy(features, rank):
    rng = np.random.default_rng(0)
    assert effective_rank(features) == pytest.approx(rank, nan_ok=True)
    if np.isfinite(rank):
        # A rotation of the features and another order of the images change nothing.
        rotation = np.linalg.qr(rng.standard_normal((features.shape[1],) * 2))[0]
        assert effective_rank(rng.permutation(features) @ rotation) == pytest.approx(rank)


@pytest.mark.parametrize('side', [(8, 8), (4, 12)])
def test_errors_are_those_of_masked_pixels_alone(side):
    rng = torch.Generator().manual_seed(1)
    image, drawn = (torch.randn(2, 3, *side, generator=rng) for _ in range(2))
    mask = torch.zeros(2, side[0] // 4, side[1] // 4, dtype=torch.uint8)
    mask[0, 0, 0] = mask[1, -1, -1] = 1
    errors, fills = [], []
    for number, rows in ((0, slice(0, 4)), (1, slice(-4, None))):
        part = image[number, :, rows, rows]
        errors.append((drawn[number, :, rows, rows] - part).abs().sum())
        mean = image[number].mean(dim=(1, 2), keepdim=True)
        fills.append((mean - part).abs().sum())
    outputs = dict(image=image, reconstruction=drawn, mask=mask)
    expected = torch.stack([sum(errors), sum(fills), torch.tensor(2 * 3 * 16.0)])
    torch.testing.assert_close(masked_errors(outputs), expected)
    assert masked_errors({**outputs, 'target': drawn}).tolist() == [0, 0, 0]


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', 5)
    write_images(root / 'val', 2)
    return root


def pretraining(images: Path, epochs: int = 3, **changes: object) -> Config:
    """Pre-training in epochs of four batches, without labels."""
    cfg = toy_config(images, train_cfg__max_epochs=epochs)
    cfg.model = dict(
        type='A2MIM',
        data_preprocessor=cfg.model.data_preprocessor,
        backbone=dict(
            type='TimmBackbone',
            model_name='resnet10t',
            channels=(8, 8, 16, 16),
            output_stride=8,
            mask_after='layer1',
            drop_path_rate=0.5,
        ),
        neck=dict(type='PixelShuffleDecoder'),
        head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
    )
    mask = dict(type='BlockMask', image_size=32, block_size=8, ratio=0.5)
    cfg.train_dataloader.dataset.update(type='MaskedImageDataset', mask=mask)
    cfg.train_dataloader.dataset.source.with_labels = False
    for name in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg.pop(name)
    cfg.default_hooks.unlabelled_probe = dict(type='UnlabelledProbeHook', interval=2, number=9)
    cfg.merge_from_dict({name.replace('__', '.'): value for name, value in changes.items()})
    return cfg


def lines_with(work_dir: Path, name: str) -> list[dict]:
    return [line for line in read_scalars(work_dir) if name in line]


@pytest.mark.parametrize('workers', [0, 2])
def test_without_labels_it_measures_and_changes_nothing(images, tmp_path, workers):
    runners = []
    for name in ('measured', 'plain'):
        cfg = pretraining(images, train_dataloader__num_workers=workers)
        if name == 'plain':
            cfg.default_hooks.pop('unlabelled_probe')
        cfg.update(work_dir=str(tmp_path / name), experiment_name=f'{tmp_path.name}-{name}')
        runners.append(Runner.from_cfg(cfg))
        runners[-1].train()
    losses = [
        [line['loss'] for line in lines_with(tmp_path / name, 'loss')]
        for name in ('measured', 'plain')
    ]
    assert len(losses[0]) == 12  # four batches of 15 images
    assert losses[0] == losses[1]
    for key, tensor in runners[1].model.state_dict().items():
        assert torch.equal(runners[0].model.state_dict()[key], tensor), key
    lines = lines_with(tmp_path / 'measured', 'probe/effective_rank')
    assert [line['step'] for line in lines] == [0, 2, 3]
    assert all(1 <= line['probe/effective_rank'] <= 9 for line in lines)
    # The images and their masks are the same each time, so that a mean fill is.
    assert len({line['probe/mean_fill_l1'] for line in lines}) == 1
    assert lines[0]['probe/masked_l1'] > lines[-1]['probe/masked_l1']
    text = next((tmp_path / 'measured').rglob('*.log')).read_text()
    assert text.count('neither tells how well the features classify') == 1


@pytest.mark.parametrize('collapsed', [True, False])
def test_features_that_have_collapsed_are_warned_of(images, tmp_path, collapsed):
    cfg = pretraining(images, train_cfg__max_epochs=1)
    cfg.update(work_dir=str(tmp_path / 'run'), experiment_name=f'{tmp_path.name}-{collapsed}')
    runner = Runner.from_cfg(cfg)
    if collapsed:
        runner.model.backbone.register_forward_hook(
            lambda _, __, out: 1 + 1e-3 * out if runner.iter else out
        )
    runner.train()
    text = next(tmp_path.rglob('*.log')).read_text()
    assert text.count('to 1.00: they have collapsed') == collapsed
    assert text.count('collapsed, all') == collapsed


def test_images_without_masks_have_nothing_to_reconstruct(images, tmp_path):
    cfg = toy_config(images)
    cfg.default_hooks.unlabelled_probe = dict(type='UnlabelledProbeHook', interval=1)
    cfg.update(work_dir=str(tmp_path / 'run'), experiment_name=tmp_path.name)
    with pytest.raises(ValueError, match='the training images have no masks: leave the hook out'):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('options', [{'interval': 0}, {'batch_size': 0}, {'number': 1}])
def test_numbers_that_are_too_small_are_refused(options):
    with pytest.raises(ValueError, match=r'=[01] .*at least [12]'):
        UnlabelledProbeHook(**{'interval': 1, **options})


def dataset(folder: Path) -> torch.utils.data.Dataset:
    source = dict(type='ImageFolder', root=str(folder), with_labels=True)
    return DATASETS.build(dict(type='ImageDataset', source=source, pipeline=[]))


def test_a_folder_is_split_in_halves_of_each_class(images, tmp_path):
    parts = halves(dataset(images / 'train'))
    assert parts['train'].tolist() == [0, 1, 2, 5, 6, 7, 10, 11, 12]
    assert parts['test'].tolist() == [3, 4, 8, 9, 13, 14]
    write_images(tmp_path / 'one', 1)
    with pytest.raises(ValueError, match='3 images, one of each class, leave none to classify'):
        halves(dataset(tmp_path / 'one'))


def applied(cfg: Config, *options: str) -> Config:
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    add_train_options(parser)
    apply_train_options(cfg, parser.parse_args(['config.py', *options]))
    return cfg


def test_probe_reads_class_folders_as_the_training_reads_its_images(images):
    cfg = pretraining(images, train_dataloader__dataset__source__channels=1)
    cfg.custom_hooks = [dict(type='EMAHook'), dict(type='FeatureProbeHook', interval=7, train={})]
    cfg = applied(cfg, '--probe', str(images))
    other, hook = cfg.custom_hooks
    assert other.type == 'EMAHook'
    assert (hook.interval, hook.linear) == (None, True)  # a twentieth of the run
    assert hook.train.source.root == str(images / 'train')
    assert hook.test.source.root == str(images / 'val')
    assert hook.train.source.channels == 1
    cfg = applied(pretraining(images), '--probe', str(images / 'train'))
    (hook,) = cfg.custom_hooks
    assert hook.train.source.root == str(images / 'train')
    assert 'test' not in hook
    assert DATASETS.build(hook.train)[0]['image'].shape == (3, 32, 32)


def test_a_probe_that_cannot_be_is_refused(images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'--probe .*nowhere is not a folder'):
        applied(pretraining(images), '--probe', str(tmp_path / 'nowhere'))
    with pytest.raises(ValueError, match='--probe measures features during a pre-training'):
        applied(toy_config(images), '--probe', str(images))


def test_parts_with_other_classes_are_refused(images, tmp_path):
    write_images(tmp_path / 'val', 2)
    (tmp_path / 'val' / 'red').rename(tmp_path / 'val' / 'violet')
    cfg = pretraining(images)
    source = dict(type='ImageFolder', with_labels=True)
    train, test = (
        dict(type='ImageDataset', source=dict(root=str(root), **source), pipeline=[])
        for root in (images / 'train', tmp_path / 'val')
    )
    cfg.custom_hooks = [dict(type='FeatureProbeHook', interval=1, train=train, test=test)]
    cfg.update(work_dir=str(tmp_path / 'run'), experiment_name=tmp_path.name)
    with pytest.raises(ValueError, match=r"train has the classes .*'red'.*, and test .*'violet'"):
        Runner.from_cfg(cfg).train()


def test_at_most_so_many_images_are_classified(images, tmp_path):
    cfg = pretraining(images, epochs=1)
    train = dict(type='ImageFolder', root=str(images / 'train'), with_labels=True)
    options = dict(type='FeatureProbeHook', interval=1, neighbours=2, most=4)
    cfg.custom_hooks = [dict(train=dict(type='ImageDataset', source=train, pipeline=[]), **options)]
    cfg.update(work_dir=str(tmp_path / 'run'), experiment_name=tmp_path.name)
    runner = Runner.from_cfg(cfg)
    runner.train()
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, FeatureProbeHook))
    places = {split: loader.dataset.indices for split, loader in hook._loaders.items()}
    assert places == {'train': [0, 2, 7, 12], 'test': [3, 4, 9, 14]}


def test_probes_of_any_number_are_drawn(tmp_path):
    errors = {f'probe/{name}_l1': ([0, 5], [0.9, 0.5]) for name in ('masked', 'mean_fill')}
    draw_probes({'probe/effective_rank': ([0], [3.0]), **errors}, tmp_path / 'two.png')
    draw_probes({'probe/knn_top1': ([0, 1], [30.0, np.nan])}, tmp_path / 'one.png')
    heights = [Image.open(tmp_path / name).size[1] for name in ('one.png', 'two.png')]
    assert heights[1] == 2 * heights[0]


@pytest.mark.integration
def test_probes_and_their_picture_resume(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / 'labelled', 16)
    train = load_tool('train').main
    options = dict(default_hooks__loss_curve=dict(type='LossCurveHook'))
    cfg = pretraining(images, epochs=4, default_hooks__checkpoint__max_keep_ckpts=-1, **options)
    cfg.dump('probed.py')
    train(['probed.py', '--probe', 'labelled', '--work-dir', 'whole'])
    train(
        ['probed.py', '--probe', 'labelled', '--work-dir', 'rest', '--resume', 'whole/epoch_2.pth']
    )
    ends = [torch.load(f'{name}/latest.pth', weights_only=False) for name in ('whole', 'rest')]
    probes = [end['message_hub']['runtime_info']['probes'] for end in ends]
    assert probes[0] == probes[1]
    assert probes[0]['probe/effective_rank'][0] == [0, 2, 4]
    assert probes[0]['probe/knn_top1'][0] == [0, 1, 2, 3, 4]
    for key, tensor in ends[0]['state_dict'].items():
        assert torch.equal(ends[1]['state_dict'][key], tensor), key
    pictures = [np.asarray(Image.open(f'{name}/probe.png')) for name in ('whole', 'rest')]
    assert np.array_equal(*pictures)
    assert pictures[0].std() > 10
