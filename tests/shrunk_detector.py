"""Options that shrink a detector until two CPU cores train it in seconds."""

import json
from pathlib import Path

from toy_run import ROOT, load_tool

CONFIGS = ROOT / 'det_mmdetection/configs/coco'
# Regions per image: they take most of the time of a small image.
FEW_REGIONS = (
    'model.train_cfg.rpn_proposal.nms_pre=50',
    'model.train_cfg.rpn_proposal.max_per_img=20',
    'model.train_cfg.rcnn.sampler.num=8',
    'model.test_cfg.rpn.nms_pre=50',
    'model.test_cfg.rpn.max_per_img=10',
    'model.test_cfg.rcnn.max_per_img=10',
)
WIDTH = 96  # of the ViTs, in place of 768


def write_shapes(root: Path, images: int, val: int, size: int = 128) -> Path:
    """A small data set in COCO's format and layout."""
    numbers = ['--images', str(images), '--val', str(val), '--size', str(size), '--seed', '0']
    load_tool('prepare_data/make_shapes').main([str(root), '--format', 'coco', *numbers])
    return root


def data_options(config: Path, data: Path, size: int) -> list[str]:
    """Read ``data`` in place of COCO, at ``size`` pixels."""
    annotations = data / 'annotations/instances_val2017.json'
    names = [entry['name'] for entry in json.loads(annotations.read_text())['categories']]
    options = [
        f'{head}.num_classes={len(names)}'
        for head in ('model.roi_head.bbox_head', 'model.roi_head.mask_head')
    ]
    for split in ('train', 'val', 'test'):
        loader = f'{split}_dataloader'
        options += [
            f'{loader}.num_workers=0',
            f'{loader}.dataset.data_root={data}/',
            f'{loader}.dataset.metainfo.classes={",".join(names)}',
        ]
    for split in ('val', 'test'):
        options.append(f'{split}_evaluator.ann_file={annotations}')
        options.append(f'{split}_dataloader.dataset.pipeline.1.scale=({size},{size})')
    return [*options, *size_options(config, size), *width_options(config)]


def width_options(config: Path) -> list[str]:
    """A narrow ViT: to update and save ViT-B takes long, whatever the size of the images."""
    if 'vit-base' not in config.stem:
        return []
    pyramid = 'model.neck' if '_literal-' in config.stem else 'model.neck.1'
    rescaled = [] if pyramid == 'model.neck' else [f'model.neck.0.embed_dim={WIDTH}']
    channels = ','.join([str(WIDTH)] * 4)
    return [
        f'model.backbone.embed_dim={WIDTH}',
        'model.backbone.num_heads=4',
        f'{pyramid}.in_channels=[{channels}]',
        *rescaled,
    ]


def size_options(config: Path, size: int) -> list[str]:
    """Train on images of about ``size`` pixels."""
    pipeline, scales = 'train_dataloader.dataset.pipeline', f'scales=[({size},{size})]'
    if '_r50' in config.stem:
        return [f'{pipeline}.2.{scales}']
    choice = f'{pipeline}.3.transforms'
    return [
        f'{choice}.0.0.{scales}',
        f'{choice}.1.0.{scales}',
        f'{choice}.1.1.crop_size=({size // 2},{size})',
        f'{choice}.1.2.{scales}',
    ]


def options(config: Path, data: Path, size: int) -> list[str]:
    """Two epochs of two images a step, with a validation after each."""
    # bfloat16, which this config takes, is several times slower on most CPUs.
    precision = ['optim_wrapper.type=OptimWrapper'] if '_amp-' in config.stem else []
    # The linear layer has a third of all weights; the head of C4 has none.
    linear = [] if '-c4_' in config.stem else ['model.roi_head.bbox_head.fc_out_channels=64']
    return [
        *data_options(config, data, size),
        *precision,
        *linear,
        *FEW_REGIONS,
        'auto_scale_lr.base_batch_size=2',
        'train_cfg.max_epochs=2',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.save_best=None',
    ]
