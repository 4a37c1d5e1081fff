"""``--data-root``: where the images of every data loader come from."""

from pathlib import Path

import pytest
from mmengine import Config

from a2mim.engine.config_edit import set_data_root


def loader(*, kind: str = 'ImageFolder', **source: object) -> dict:
    return dict(dataset=dict(type='ImageDataset', source=dict(type=kind, **source)))


def roots(cfg: Config) -> list[str]:
    return [cfg[name].dataset.source.root for name in cfg]


def test_pre_training_reads_a_plain_folder(tmp_path):
    cfg = Config(dict(train_dataloader=loader(root='data/ImageNet/train')))
    set_data_root(cfg, str(tmp_path))
    assert roots(cfg) == [str(tmp_path)]


def test_training_and_validation_read_their_parts(tmp_path):
    for part in ('train', 'val'):
        (tmp_path / part).mkdir()
    cfg = Config(
        dict(
            train_dataloader=loader(root='data/ImageNet/train'),
            val_dataloader=loader(root='data/ImageNet/val'),
        )
    )
    set_data_root(cfg, str(tmp_path))
    assert roots(cfg) == [str(tmp_path / 'train'), str(tmp_path / 'val')]


def test_validation_on_the_training_images_is_refused(tmp_path):
    cfg = Config(dict(train_dataloader=loader(root='a/train'), val_dataloader=loader(root='a/val')))
    with pytest.raises(ValueError, match=r'training and val the same images.*/train and .*/val'):
        set_data_root(cfg, str(tmp_path))


def test_sources_that_part_by_another_argument_may_share_a_folder(tmp_path):
    cfg = Config(
        dict(
            train_dataloader=loader(kind='CIFAR', root='data', train=True),
            test_dataloader=loader(kind='CIFAR', root='data', train=False),
        )
    )
    set_data_root(cfg, str(tmp_path))
    assert roots(cfg) == [str(tmp_path)] * 2


def test_validation_on_a_folder_that_holds_the_training_images_is_refused(tmp_path):
    (tmp_path / 'train').mkdir()
    cfg = Config(dict(train_dataloader=loader(root='a/train'), val_dataloader=loader(root='a/val')))
    with pytest.raises(ValueError, match='the same images'):
        set_data_root(cfg, str(tmp_path))


def test_validation_on_images_of_which_a_few_are_learnt_is_refused(tmp_path):
    few = loader(root='a/train', labels_per_class=5)
    cfg = Config(dict(train_dataloader=few, val_dataloader=loader(root='a/val')))
    with pytest.raises(ValueError, match='the same images'):
        set_data_root(cfg, str(tmp_path))


def probing(**source: object) -> Config:
    """Pre-training with a hook that measures."""
    splits = {
        split: loader(root=f'a/{part}', with_labels=True, **source)['dataset']
        for split, part in (('train', 'train'), ('test', 'val'))
    }
    hook = dict(type='FeatureProbeHook', interval=1, **splits)
    return Config(dict(train_dataloader=loader(root='a/train'), custom_hooks=[hook]))


def test_a_hook_reads_the_parts_for_training_and_validation(tmp_path):
    for part in ('train', 'val'):
        (tmp_path / part).mkdir()
    cfg = probing()
    set_data_root(cfg, str(tmp_path))
    (hook,) = cfg.custom_hooks
    assert hook.train.source.root == cfg.train_dataloader.dataset.source.root
    assert [hook[split].source.root for split in ('train', 'test')] == [
        str(tmp_path / 'train'),
        str(tmp_path / 'val'),
    ]


def test_a_hook_that_would_test_on_what_it_fits_is_refused(tmp_path):
    message = r'test of FeatureProbeHook the same images.*/val, or .*custom_hooks=\[\]'
    with pytest.raises(ValueError, match=message):
        set_data_root(probing(labels_per_class=5), str(tmp_path))


def test_other_hooks_are_left_alone(tmp_path):
    cfg = Config(dict(train_dataloader=loader(root='a/train')))
    cfg.default_hooks = dict(checkpoint=None, logger=dict(type='LoggerHook'))
    set_data_root(cfg, str(tmp_path))
    assert cfg.default_hooks == dict(checkpoint=None, logger=dict(type='LoggerHook'))


def test_nested_data_sets_are_found(tmp_path):
    inner = loader(root='x')['dataset']
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='Concat', datasets=[inner]))))
    set_data_root(cfg, str(tmp_path))
    assert cfg.train_dataloader.dataset.datasets[0].source.root == str(tmp_path)


def test_a_missing_folder_is_refused_before_anything_is_built():
    cfg = Config(dict(train_dataloader=loader(root='x')))
    with pytest.raises(FileNotFoundError, match='--data-root /nowhere'):
        set_data_root(cfg, '/nowhere')


def test_an_option_without_effect_is_refused(tmp_path: Path):
    cfg = Config(dict(train_dataloader=loader(kind='PhotoPatches', split='train')))
    with pytest.raises(ValueError, match='no effect'):
        set_data_root(cfg, str(tmp_path))
