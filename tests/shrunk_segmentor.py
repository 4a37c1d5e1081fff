"""Options that shrink a segmentor until two CPU cores train it in seconds."""

from pathlib import Path

from toy_run import ROOT, load_tool

CONFIGS = ROOT / 'seg_mmsegmentation/configs/ade20k'
HEADS = ('decode_head', 'auxiliary_head')
TESTS = ('val', 'test')
WIDTH = 96  # of the ViTs, in place of 768


def write_shapes(root: Path, images: int, val: int, size: int = 64) -> Path:
    """A small data set in ADE20K's format and layout."""
    numbers = ['--images', str(images), '--val', str(val), '--size', str(size), '--seed', '0']
    load_tool('prepare_data/make_shapes').main([str(root), '--format', 'ade', *numbers])
    return root


def data_options(data: Path, size: int) -> list[str]:
    """Read ``data`` in place of ADE20K, at ``size`` pixels."""
    names = (data / 'classes.txt').read_text(encoding='utf-8').split()
    options = [f'model.{head}.num_classes={len(names)}' for head in HEADS]
    for split in ('train', 'val', 'test'):
        loader = f'{split}_dataloader'
        options += [
            f'{loader}.num_workers=0',
            f'{loader}.persistent_workers=False',
            # The data set of ADE20K accepts the names of its own classes only.
            f'{loader}.dataset.type=BaseSegDataset',
            f'{loader}.dataset.img_suffix=.jpg',
            f'{loader}.dataset.seg_map_suffix=.png',
            f'{loader}.dataset.reduce_zero_label=True',
            f'{loader}.dataset.data_root={data}',
            f'{loader}.dataset.metainfo.classes={",".join(names)}',
        ]
    options += [f'{split}_dataloader.dataset.pipeline.1.scale={wide(size)}' for split in TESTS]
    pipeline = 'train_dataloader.dataset.pipeline'
    return [*options, f'{pipeline}.2.scale={wide(size)}', f'{pipeline}.3.crop_size=({size},{size})']


def size_options(config: Path, size: int) -> list[str]:
    """A model for images of ``size`` pixels; the step between windows is as wide as published."""
    options = [f'model.data_preprocessor.size=({size},{size})']
    if '_r50' not in config.stem:
        step = size * 2 // 3
        options.append(f'model.test_cfg.crop_size=({size},{size})')
        options.append(f'model.test_cfg.stride=({step},{step})')
    if config.stem.startswith(('vit-', 'mae-')):
        options += [f'model.backbone.img_size={size}', *width_options()]
    return options


def width_options() -> list[str]:
    """A narrow ViT: to update and save ViT-B takes long, whatever the size of the images."""
    channels = ','.join([str(WIDTH)] * 4)
    return [
        f'model.backbone.embed_dim={WIDTH}',
        'model.backbone.num_heads=4',
        f'model.neck.embed_dim={WIDTH}',
        f'model.decode_head.in_channels=[{channels}]',
        f'model.auxiliary_head.in_channels={WIDTH}',
    ]


def options(config: Path, data: Path, size: int) -> list[str]:
    """Five iterations of two images, a checkpoint after the third, an evaluation at the end."""
    return [
        *data_options(data, size),
        *size_options(config, size),
        *(f'model.{head}.channels=32' for head in HEADS),
        'train_dataloader.batch_size=2',
        'auto_scale_lr.base_batch_size=2',
        'train_cfg.max_iters=5',
        'train_cfg.val_interval=5',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=3',
        'default_hooks.checkpoint.save_best=None',
    ]


def wide(size: int) -> str:
    """The published scale: the short side is ``size``, the long one at most four times that."""
    return f'({4 * size},{size})'
