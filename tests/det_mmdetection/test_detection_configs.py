"""Every detector: names against a schema of MMDetection, values against the published ones."""

import pytest

from config_schema import unknown_names
from recipe_facts import differences, goldens
from transfer_facts import CONFIGS, command_of, schema_of, transfer_facts

DETECTORS = {path.stem: path for path in CONFIGS['detection']}
FOLDER = CONFIGS['detection'][0].parent
SCHEMA = schema_of('detection')
GOLDENS = goldens('detection')


@pytest.mark.parametrize('name', GOLDENS)
def test_every_detector_is_the_published_one(name):
    path = DETECTORS[name]
    assert unknown_names(path, SCHEMA) == []
    found = differences(GOLDENS[name], transfer_facts(path, SCHEMA))
    assert not found, '\n'.join(['not as published:', *found])
    script = 'mim_dist_train_c4.sh' if '-c4_' in name else 'mim_dist_train.sh'
    config = f'det_mmdetection/configs/coco/{path.name}'
    assert command_of(path) == f'bash det_mmdetection/{script} {config} PRETRAIN 8'


def test_every_detector_has_its_facts():
    assert GOLDENS.keys() == DETECTORS.keys()


def test_the_maps_of_the_vit_that_is_no_literal_copy_have_strides_4_to_32():
    facts = GOLDENS['mask-rcnn_vit-base-p16_fpn_4conv1fc-giou_ms-crop-1x_coco']
    assert [16 / scale for scale in facts['model.neck.0.scales']] == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ('right', 'wrong', 'unknown'),
    [
        ('norm_eval=False', 'norm_evla=False', 'model.backbone.norm_evla'),
        ('keep_ratio=True', 'keep_ration=True', 'train_dataloader.dataset.pipeline.2.keep_ration'),
        ('train_dataloader =', 'train_loader =', 'train_loader'),
        ('lr=0.02', 'learning_rate=0.02', 'optim_wrapper.optimizer.learning_rate'),
        ('batch_size=2', 'batch=2', 'train_dataloader.batch'),
        ('part=', 'stage=', 'model.roi_head.shared_head.init_cfg.stage'),
        ('save_best=', 'keep_best=', 'default_hooks.checkpoint.keep_best'),
        ('requires_grad=', 'trained=', 'model.backbone.norm_cfg.trained'),
    ],
)
def test_a_misspelt_name_would_be_noticed(tmp_path, right, wrong, unknown):
    for folder in ('coco', '_base_'):
        (tmp_path / folder).mkdir()
        for path in (FOLDER.parent / folder).glob('*.py'):
            text = path.read_text(encoding='utf-8').replace(right, wrong)
            (tmp_path / folder / path.name).write_text(text, encoding='utf-8')
    changed = tmp_path / 'coco/mask-rcnn_r50-c4_ms-1x_coco.py'
    assert unknown in unknown_names(changed, SCHEMA)
