"""Every segmentor: names against a schema of MMSegmentation, values against the published ones."""

import json
from pathlib import Path

import pytest
from mmengine import Config

from config_schema import read, unknown_names

FOLDER = Path(__file__).parents[2] / 'seg_mmsegmentation/configs/ade20k'
CONFIGS = sorted(FOLDER.glob('*.py'))
SCHEMA = json.loads(Path(__file__).with_name('mmseg_schema.json').read_text(encoding='utf-8'))
R50 = [path for path in CONFIGS if '_r50' in path.stem]
VIT = [path for path in CONFIGS if path.stem.startswith(('vit-', 'mae-'))]
BEIT = [path for path in VIT if path.stem.startswith('vit-')]
WARM = [path for path in CONFIGS if path not in R50]  # those with a warm-up
SGD = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
# Learning rate and, of a ViT, the decay from layer to layer.
RATES = {
    'vit-base-p16_upernet_8xb2-160k_ade20k-512x512': (4e-4, 0.65),
    'vit-base-p16_upernet_8xb2-160k_ade20k-640x640': (3e-5, 0.9),
    'mae-base_upernet_8xb2-amp-160k_ade20k-512x512': (1e-4, 0.65),
    'convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512': (1e-4, None),
}


def segmentor(path: Path) -> Config:
    return read(path, SCHEMA)


def size_of(path: Path) -> int:
    """Pixels, by the name of the file."""
    return int(path.stem.rsplit('x', 1)[1])


def iterations_of(path: Path) -> int:
    """Length of the schedule, by the name of the file."""
    return 1000 * int(path.stem.split('k_ade20k')[0].rsplit('-', 1)[1])


def test_every_model_size_and_schedule_of_the_published_ones_is_there():
    assert [path.stem for path in CONFIGS] == sorted(
        [
            'fcn_r50-d8_4xb4-amp-160k_ade20k-512x512',
            'upernet_r50_4xb4-80k_ade20k-512x512',
            'upernet_r50_4xb4-160k_ade20k-512x512',
            *RATES,
        ]
    )


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_segmentor_is_the_published_one(path):
    assert unknown_names(path, SCHEMA) == []
    cfg = segmentor(path)
    check_its_base(path)
    check_that_sixteen_images_make_one_step(cfg, path)
    check_that_it_is_evaluated_and_saved_ten_times(cfg, path)
    check_that_the_trunk_alone_is_pretrained(cfg)
    check_crops_and_classes(cfg, path)
    check_mixed_precision(cfg, path)
    check_the_command_in_its_docstring(path)
    if path in R50:
        check_sgd_and_a_power_of_the_time_left(cfg)
        check_the_plain_stem_of_pre_training(cfg)
    if path in WARM:
        check_adamw_and_a_warm_up(cfg, path)
        check_overlapping_windows(cfg, path)
    if path in VIT:
        check_four_maps_at_strides_4_to_32(cfg, path)
    if path in BEIT:
        check_both_kinds_of_positions(cfg)


def check_its_base(path: Path) -> None:
    (base,) = Config._get_base_files(str(path))
    assert base.startswith('mmseg::')
    size = size_of(path)
    assert base.endswith(f'k_ade20k-{size}x{size}.py')


def check_that_sixteen_images_make_one_step(cfg: Config, path: Path) -> None:
    gpus, batch = map(int, path.stem.split('xb')[0][-1:] + path.stem.split('xb')[1][0])
    assert cfg.train_dataloader.batch_size == batch
    assert gpus * batch == cfg.auto_scale_lr.base_batch_size == 16


def check_that_it_is_evaluated_and_saved_ten_times(cfg: Config, path: Path) -> None:
    total = iterations_of(path)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == total
    checkpoint = cfg.default_hooks.checkpoint
    assert cfg.train_cfg.val_interval == checkpoint.interval == total // 10
    assert checkpoint.save_best == 'mIoU'


def check_that_the_trunk_alone_is_pretrained(cfg: Config) -> None:
    assert cfg.model.pretrained is None
    assert cfg.model.backbone.init_cfg == dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN')
    assert cfg.custom_imports == dict(imports=['a2mim.transfer'], allow_failed_imports=False)


def check_crops_and_classes(cfg: Config, path: Path) -> None:
    model = cfg.model
    assert model.data_preprocessor.size == (size_of(path),) * 2
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 150


def check_sgd_and_a_power_of_the_time_left(cfg: Config) -> None:
    assert cfg.optim_wrapper.optimizer == SGD
    (schedule,) = cfg.param_scheduler
    assert (schedule.type, schedule.power, schedule.eta_min) == ('PolyLR', 0.9, 1e-4)
    assert not schedule.by_epoch


def check_the_plain_stem_of_pre_training(cfg: Config) -> None:
    assert cfg.model.backbone.type == 'ResNet'


def check_mixed_precision(cfg: Config, path: Path) -> None:
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    assert (kind == 'a2mim.AmpOptimWrapper') == ('-amp-' in path.stem)


def check_adamw_and_a_warm_up(cfg: Config, path: Path) -> None:
    lr, decay = RATES[path.stem]
    optimizer = dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.05)
    assert cfg.optim_wrapper.optimizer == optimizer
    assert cfg.optim_wrapper.constructor == 'a2mim.ParamRuleConstructor'
    assert cfg.optim_wrapper.paramwise_cfg.get('layer_decay') == decay
    warmup, schedule = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.end) == ('LinearLR', 0, 1500)
    assert (warmup.start_factor, warmup.by_epoch) == (1e-6, False)
    assert (schedule.type, schedule.begin, schedule.by_epoch) == ('PolyLR', 1500, False)
    assert (schedule.power, schedule.eta_min) == (1.0, 0.0)


def check_overlapping_windows(cfg: Config, path: Path) -> None:
    size, test = size_of(path), cfg.model.test_cfg
    stride = {512: 341, 640: 426}[size]
    assert test == dict(mode='slide', crop_size=(size, size), stride=(stride, stride))


def check_four_maps_at_strides_4_to_32(cfg: Config, path: Path) -> None:
    model = cfg.model
    assert model.backbone.out_indices == (3, 5, 7, 11)
    assert model.backbone.img_size == size_of(path)
    assert model.backbone.drop_path_rate == 0.1
    assert [16 / scale for scale in model.neck.rescales] == [4, 8, 16, 32]
    assert model.neck.embed_dim == 768
    assert model.decode_head.in_channels == [768] * 4
    assert model.decode_head.channels == 768
    assert (model.auxiliary_head.in_channels, model.auxiliary_head.channels) == (768, 256)


def check_both_kinds_of_positions(cfg: Config) -> None:
    backbone = cfg.model.backbone
    assert backbone.model_name == 'beit_base_patch16_224'
    assert backbone.use_abs_pos_emb
    assert backbone.use_rel_pos_bias
    assert backbone.init_values == 0.1


def check_the_command_in_its_docstring(path: Path) -> None:
    text = ' '.join(path.read_text(encoding='utf-8').split('"""')[1].split())
    command = text.split('Run: ')[1].replace('\\ ', '')
    name = f'seg_mmsegmentation/configs/ade20k/{path.name}'
    gpus = path.stem.split('xb')[0][-1]
    assert command == f'bash seg_mmsegmentation/mim_dist_train.sh {name} PRETRAIN {gpus}'


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
    text = BEIT[0].read_text(encoding='utf-8')
    assert right in text
    (tmp_path / 'config.py').write_text(text.replace(right, wrong), encoding='utf-8')
    assert unknown in unknown_names(tmp_path / 'config.py', SCHEMA)


def test_fcn_reads_features_at_stride_8():
    (path,) = (path for path in R50 if path.stem.startswith('fcn'))
    backbone = segmentor(path).model.backbone
    assert backbone.dilations == (1, 1, 2, 4)
    assert backbone.strides == (1, 2, 1, 1)
