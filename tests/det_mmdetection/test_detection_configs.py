"""Every detector: names against a schema of MMDetection, values against the published ones."""

import json
from pathlib import Path

import pytest
from mmengine import Config

from config_schema import read, unknown_names

FOLDER = Path(__file__).parents[2] / 'det_mmdetection/configs/coco'
CONFIGS = sorted(FOLDER.glob('*.py'))
SCHEMA = json.loads(Path(__file__).with_name('mmdet_schema.json').read_text(encoding='utf-8'))
R50 = [path for path in CONFIGS if '_r50' in path.stem]
C4 = [path for path in R50 if '-c4_' in path.stem]
FPN = [path for path in R50 if '_fpn_' in path.stem]
VIT = [path for path in CONFIGS if '_vit-' in path.stem]
SYNC_BN = dict(type='SyncBN', requires_grad=True)
ADAMW = dict(type='AdamW', lr=3e-4, betas=(0.9, 0.999), weight_decay=0.05)
SGD = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4)
# Epochs, steps, and iterations of warm-up.
SCHEDULES = {
    'mask-rcnn_r50-c4_ms-1x_coco': (12, [8, 11], 500),
    'mask-rcnn_r50-c4_ms-2x_coco': (24, [16, 23], 1000),
    'mask-rcnn_r50_fpn_ms-1x_coco': (12, [8, 11], 500),
    'mask-rcnn_r50_fpn_ms-2x_coco': (24, [16, 23], 1000),
    'mask-rcnn_vit-base-p16_fpn_4conv1fc-giou_ms-crop-1x_coco': (12, [9, 11], 500),
    'mask-rcnn_vit-base-p16_fpn_4conv1fc-giou_literal-1x_coco': (12, [9, 11], 500),
    'mask-rcnn_convnext-t_fpn_amp-ms-crop-3x_coco': (36, [27, 33], 1000),
}


def detector(path: Path) -> Config:
    return read(path, SCHEMA)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_detector_is_the_published_one(path):
    assert unknown_names(path, SCHEMA) == []
    cfg = detector(path)
    check_the_schedule(cfg, path)
    check_the_rate_of_sixteen_images_on_eight_gpus(cfg, path)
    check_that_the_trunk_alone_is_pretrained(cfg)
    check_the_command_in_its_docstring(path)
    if path in R50:
        check_that_all_is_trained_with_synchronised_norms(cfg)
        check_short_sides_from_640_to_800_with_masks(cfg)
    if path in C4:
        check_stage_4_and_a_norm_as_shared_head(cfg)
    if path in FPN:
        check_norms_in_pyramid_box_and_mask_head(cfg)
    if path in VIT:
        check_four_maps_and_a_giou_box_head(cfg)
        check_that_it_sees_what_detr_sees(cfg)


def check_the_schedule(cfg: Config, path: Path) -> None:
    epochs, steps, warmup = SCHEDULES[path.stem]
    first, second = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == second.end == epochs
    assert (second.type, second.milestones, second.gamma) == ('MultiStepLR', steps, 0.1)
    assert (first.type, first.start_factor, first.by_epoch) == ('LinearLR', 0.001, False)
    assert (first.begin, first.end) == (0, warmup)


def check_the_rate_of_sixteen_images_on_eight_gpus(cfg: Config, path: Path) -> None:
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    convnext = {**ADAMW, 'lr': 1e-4}
    expected = SGD if path in R50 else ADAMW if path in VIT else convnext
    optimizer = dict(cfg.optim_wrapper.optimizer)
    optimizer.pop('_delete_', None)
    assert {key: optimizer[key] for key in expected} == expected


def check_that_the_trunk_alone_is_pretrained(cfg: Config) -> None:
    assert cfg.model.backbone.init_cfg == dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN')
    assert cfg.custom_imports.imports[0] == 'a2mim.transfer'
    assert not cfg.custom_imports.allow_failed_imports


def check_that_all_is_trained_with_synchronised_norms(cfg: Config) -> None:
    backbone = cfg.model.backbone
    assert (backbone.frozen_stages, backbone.norm_eval) == (-1, False)
    assert backbone.norm_cfg == SYNC_BN


def check_short_sides_from_640_to_800_with_masks(cfg: Config) -> None:
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert [step.type for step in pipeline] == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'RandomChoiceResize',
        'RandomFlip',
        'PackDetInputs',
    ]
    assert pipeline[1].with_mask
    assert pipeline[2].scales == [(1333, side) for side in range(640, 801, 32)]
    assert pipeline[3].prob == 0.5


def check_stage_4_and_a_norm_as_shared_head(cfg: Config) -> None:
    head = cfg.model.roi_head.shared_head
    assert head.type == 'ResLayerExtraNorm'
    assert head.norm_cfg == SYNC_BN
    assert not head.norm_eval
    assert head.init_cfg == dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN', part='layer4')
    assert 'det_mmdetection.res_layer_extra_norm' in cfg.custom_imports.imports
    # PyTorch's weights: RGB, and the stride in the 3x3 convolution.
    assert (head.style, cfg.model.backbone.style) == ('pytorch', 'pytorch')
    data = cfg.model.data_preprocessor
    assert data.bgr_to_rgb
    assert data.mean == [123.675, 116.28, 103.53]
    assert data.std == [58.395, 57.12, 57.375]


def check_norms_in_pyramid_box_and_mask_head(cfg: Config) -> None:
    model = cfg.model
    assert model.neck.norm_cfg == SYNC_BN
    assert model.roi_head.bbox_head.type == 'Shared4Conv1FCBBoxHead'
    assert model.roi_head.bbox_head.norm_cfg == SYNC_BN
    assert model.roi_head.mask_head.norm_cfg == SYNC_BN


def check_four_maps_and_a_giou_box_head(cfg: Config) -> None:
    backbone, head = cfg.model.backbone, cfg.model.roi_head.bbox_head
    assert backbone.model_name == 'beit_base_patch16_224'
    assert backbone.out_indices == (3, 5, 7, 11)
    assert (backbone.init_values, backbone.drop_path_rate) == (0.1, 0.2)
    assert (head.type, head.conv_out_channels) == ('Shared4Conv1FCBBoxHead', 256)
    assert head.norm_cfg == SYNC_BN
    assert head.reg_decoded_bbox
    assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ('GIoULoss', 10.0)


def check_that_it_sees_what_detr_sees(cfg: Config) -> None:
    choice = cfg.train_dataloader.dataset.pipeline[3]
    (plain,), (small, crop, again) = choice.transforms
    assert plain.scales == again.scales == [(1333, side) for side in range(480, 801, 32)]
    assert small.scales == [(1333, 400), (1333, 500), (1333, 600)]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))
    assert crop.allow_negative_crop


def check_the_command_in_its_docstring(path: Path) -> None:
    text = ' '.join(path.read_text(encoding='utf-8').split('"""')[1].split())
    script = 'mim_dist_train_c4.sh' if path in C4 else 'mim_dist_train.sh'
    command = text.split('Run: ')[1].replace('\\ ', '')
    name = f'det_mmdetection/configs/coco/{path.name}'
    assert command == f'bash det_mmdetection/{script} {name} PRETRAIN 8'


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
    assert unknown in unknown_names(tmp_path / 'coco' / C4[0].name, SCHEMA)


def test_the_literal_vit_has_no_positions_and_four_maps_of_one_stride():
    (path,) = (path for path in VIT if 'literal' in path.stem)
    cfg = detector(path)
    backbone = cfg.model.backbone
    assert not backbone.use_abs_pos_emb
    assert not backbone.use_rel_pos_bias
    assert cfg.model.neck.type == 'FPN'
    assert 'paramwise_cfg' not in cfg.optim_wrapper


def test_the_other_vit_has_positions_strides_4_to_32_and_decaying_layers():
    (path,) = (path for path in VIT if 'literal' not in path.stem)
    cfg = detector(path)
    assert cfg.model.backbone.use_abs_pos_emb
    pyramid, fpn = cfg.model.neck
    assert pyramid.type == 'a2mim.RescalePyramid'
    assert tuple(16 / scale for scale in pyramid.scales) == (4, 8, 16, 32)
    assert fpn.in_channels == [768] * 4
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay == 0.75
