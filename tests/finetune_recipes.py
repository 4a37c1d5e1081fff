"""The published fine-tuning recipes on ImageNet-1K, as one table.

Sources of the numbers: tests/data/README.md, "Recipes". Rates and weight decays of single
parameters are in ``tests/configs/test_finetune_optimisers.py``.
"""

from pathlib import Path

from mmengine import Config

FINETUNE = Path(__file__).parents[1] / 'configs/openmixup/finetune/imagenet'

RSB = dict(
    resize=236,
    erasing=0.0,
    mixing=(0.1, 1.0, 0.0),  # Beta of mixup, Beta of cutmix, smoothing
    loss=dict(type='BinaryCrossEntropy', smoothing=0.0, sum_classes=True),
    optimizer='Lamb',
    betas=(0.9, 0.999),
    eps=1e-6,
    weight_decay=0.02,
    layer_decay=None,
    clip=None,
    lamb_clip=1.0,
    schedule='OverlapCosineLR',
    stairs=True,
    warmup=(5, 1e-5),  # epochs, share of the rate at the start
    eta_min=1e-6,
    mu=None,  # share that the average of the weights keeps; None: there is no average
    head_std=0.01,
    sync_bn='torch',
    workers=10,
)
A2 = RSB | dict(size=224, magnitude=7, repeats=3, lr=5e-3, epochs=300, batch=(8, 256, 1))
A3 = RSB | dict(size=160, magnitude=6, repeats=1, lr=8e-3, epochs=100, drop_path=0.0)
TIMM = dict(
    size=224,
    resize=256,
    magnitude=9,
    erasing=0.25,
    mixing=(0.8, 1.0, 0.1),
    loss=dict(type='SoftTargetCrossEntropy'),
    repeats=1,
    optimizer='AdamW',
    betas=(0.9, 0.999),
    eps=1e-8,
    lamb_clip=None,
    stairs=False,
    eta_min=1e-6,
    sync_bn=None,
)
VIT = TIMM | dict(
    lr=1e-2,
    weight_decay=0.05,
    layer_decay=0.65,
    clip=5.0,
    schedule='WarmupCosineLR',
    warmup=(20, 0.0),
    epochs=100,
    drop_path=0.1,
    head_std=0.01,
    workers=8,
    mu=0.99996,
)
VIT_SMALL = VIT | dict(batch=(8, 128, 1), mu=None, workers=10)
VIT_LARGE = VIT | dict(batch=(8, 64, 2), repeats=3)
SPARK = TIMM | dict(
    batch=(8, 256, 2),
    lr=4e-3,
    weight_decay=0.05,
    layer_decay=None,
    clip=None,
    schedule='OverlapCosineLR',
    warmup=(5, 1e-5),
    epochs=300,
    head_std=0.02,
    workers=10,
    mu=0.9999,
)
RECIPES = {
    'r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': A2 | dict(drop_path=0.05, mu=0.9999),
    'r101_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': A2 | dict(drop_path=0.1),
    'r152_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': A2 | dict(drop_path=0.15),
    'r200_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': A2 | dict(drop_path=0.2),
    'r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100': A3 | dict(batch=(4, 512, 1)),
    'r101_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100': A3 | dict(batch=(8, 256, 1)),
    'r152_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100': A3 | dict(batch=(8, 256, 1)),
    'r200_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100': A3 | dict(batch=(8, 256, 1)),
    'vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep100': VIT_SMALL,
    'vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep200': VIT_SMALL | dict(epochs=200),
    'vit_base_p16_swin_ft_simmim_sz224_4xb128_accu2_cos_ep100': VIT | dict(batch=(4, 128, 2)),
    'vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100': VIT | dict(batch=(8, 128, 1)),
    'vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100': VIT_LARGE,
    'vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep150': VIT_LARGE | dict(epochs=150),
    'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400': SPARK
    | dict(epochs=400, lr=4e-4, weight_decay=0.01, layer_decay=0.7, drop_path=0.1),
    'convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300': SPARK | dict(drop_path=0.4),
    'convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300': SPARK | dict(drop_path=0.5),
    'convnext_t_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100': A3
    | dict(batch=(8, 256, 1), stairs=False, drop_path=0.1, head_std=0.02, sync_bn=None),
}


def read(stem: str) -> Config:
    """The config of that name."""
    return Config.fromfile(FINETUNE / f'{stem}.py')


def facts_of(config: Config) -> dict:
    """What the table has, read from a config."""
    data, wrapper = config.train_dataloader, config.optim_wrapper
    optimizer, schedule, mixing = (
        wrapper.optimizer,
        config.param_scheduler,
        config.model.data_preprocessor.mixup,
    )
    accumulated = wrapper.get('accumulative_counts', 1)
    gpus = config.auto_scale_lr.base_batch_size // (data.batch_size * accumulated)
    average = next((hook for hook in config.get('custom_hooks', [])), None)
    return dict(
        batch=(gpus, data.batch_size, accumulated),
        workers=data.num_workers,
        size=data.dataset.pipeline[0].size,
        magnitude=int(data.dataset.pipeline[2].policy.split('-')[1][1:]),
        erasing=data.dataset.get('erase', {}).get('p', 0.0),
        repeats=data.sampler.get('num_repeats', 1),
        resize=config.val_dataloader.dataset.pipeline[0].size,
        mixing=(mixing.mixup_alpha, mixing.cutmix_alpha, mixing.label_smoothing),
        loss=config.model.loss.to_dict(),
        optimizer=optimizer.type,
        lr=optimizer.lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        layer_decay=wrapper.paramwise_cfg.get('layer_decay'),
        clip=wrapper.get('clip_grad', {}).get('max_norm'),
        lamb_clip=optimizer.get('max_grad_norm'),
        schedule=schedule.type,
        stairs=schedule.get('stairs', False),
        warmup=(schedule.warmup, schedule.get('warmup_ratio', 0.0)),
        eta_min=schedule.eta_min,
        epochs=config.train_cfg.max_epochs,
        mu=average and 1 - average.momentum,
        head_std=config.model.head_init_std,
        sync_bn=config.get('sync_bn'),
        drop_path=config.model.backbone.get('drop_path_rate', 0.0),
    )
