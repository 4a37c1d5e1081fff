"""Every segmentor: names against a schema of MMSegmentation, values against the published ones."""

import re
from pathlib import Path

import pytest
from mmengine import Config

from config_schema import read, unknown_names
from recipe_facts import differences, goldens
from transfer_facts import CONFIGS, command_of, schema_of, transfer_facts

SEGMENTORS = {path.stem: path for path in CONFIGS['segmentation']}
SCHEMA = schema_of('segmentation')
GOLDENS = goldens('segmentation')
VIT = 'vit-base-p16_upernet_8xb2-160k_ade20k-512x512'


@pytest.mark.parametrize('name', GOLDENS)
def test_every_segmentor_is_the_published_one(name):
    path = SEGMENTORS[name]
    assert unknown_names(path, SCHEMA) == []
    found = differences(GOLDENS[name], transfer_facts(path, SCHEMA))
    assert not found, '\n'.join(['not as published:', *found])
    check_that_it_is_what_its_name_says(path)


def check_that_it_is_what_its_name_says(path: Path) -> None:
    """GPUs, batch, precision, iterations and size; one base of the package for the same data."""
    found = re.search(r'_(\d)xb(\d)(-amp)?-(\d+)k_ade20k-(\d+)x\5', path.stem)
    gpus, batch, thousands, size = map(int, found.group(1, 2, 4, 5))
    cfg, iterations = read(path, SCHEMA), 1000 * thousands
    (base,) = Config._get_base_files(str(path))
    assert base.startswith('mmseg::')
    assert base.endswith(f'k_ade20k-{size}x{size}.py')
    assert cfg.model.data_preprocessor.size == (size, size)
    assert cfg.train_dataloader.batch_size == batch
    assert gpus * batch == cfg.auto_scale_lr.base_batch_size == 16
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    assert (kind == 'a2mim.AmpOptimWrapper') == bool(found[3])
    # Evaluated and saved ten times, and the best is kept.
    checkpoint = cfg.default_hooks.checkpoint
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == iterations
    assert cfg.train_cfg.val_interval == checkpoint.interval == iterations // 10
    assert checkpoint.save_best == 'mIoU'
    config = f'seg_mmsegmentation/configs/ade20k/{path.name}'
    command = f'bash seg_mmsegmentation/mim_dist_train.sh {config} PRETRAIN {gpus}'
    assert command_of(path) == command


def test_every_segmentor_has_its_facts():
    assert GOLDENS.keys() == SEGMENTORS.keys()


def test_the_maps_of_vits_have_strides_4_to_32():
    for name in GOLDENS:
        if name.startswith(('vit-', 'mae-')):
            scales = GOLDENS[name]['model.neck.rescales']
            assert [16 / scale for scale in scales] == [4, 8, 16, 32], name


@pytest.mark.parametrize(
    ('right', 'wrong', 'unknown'),
    [
        ('out_indices=', 'out_indexes=', 'model.backbone.out_indexes'),
        ('train_dataloader =', 'train_loader =', 'train_loader'),
        ('rescales=', 'scales=', 'model.neck.scales'),
        ('lr=4e-4', 'rate=4e-4', 'optim_wrapper.optimizer.rate'),
        ('power=', 'exponent=', 'param_scheduler.1.exponent'),
        ('save_best=', 'keep_best=', 'default_hooks.checkpoint.keep_best'),
        ('max_iters=', 'max_iter=', 'train_cfg.max_iter'),
        ('num_classes=', 'classes=', 'model.decode_head.classes'),
    ],
)
def test_a_misspelt_name_would_be_noticed(tmp_path, right, wrong, unknown):
    text = SEGMENTORS[VIT].read_text(encoding='utf-8')
    assert right in text
    (tmp_path / 'config.py').write_text(text.replace(right, wrong), encoding='utf-8')
    assert unknown in unknown_names(tmp_path / 'config.py', SCHEMA)
