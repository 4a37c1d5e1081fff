"""Fine-tuning of ViT-B of MMPretrain on ImageNet: the recipe of the base.

Its inferencers take their pipeline from ``test_dataloader``.
Run: mim train onedl-mmpretrain configs/mmpretrain/finetune_vit-base-p16_8xb128-cos-100e_in1k.py
         --cfg-options model.backbone.init_cfg.checkpoint=CKPT
"""

_base_ = ['../openmixup/finetune/imagenet/vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100.py']

custom_imports = dict(imports=['a2mim.mmpretrain'], allow_failed_imports=False)
default_scope = 'mmpretrain'
train_dataloader = dict(
    sampler=dict(type='a2mim.EpochSampler'),
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(_delete_=True, type='HostedDataset', dataset={{_base_.train_dataloader.dataset}}),
)
val_dataloader = dict(
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HostedImages',
        source={{_base_.val_dataloader.dataset.source}},
        pipeline=[
            dict(
                type='ResizeEdge',
                scale=256,
                edge='short',
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ],
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
test_evaluator = {{_base_.val_evaluator}}
test_cfg = dict()
model = dict(
    _delete_=True,
    type='ImageClassifier',
    data_preprocessor=dict(
        type='HostedPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=1000),
    ),
    backbone=dict(
        type='BEiTViT',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        norm_cfg=dict(type='LN', eps=1e-6),
        layer_scale_init_value=0.1,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        out_type='avg_featmap',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/PRETRAIN/epoch_800.pth',
            prefix='backbone.model.',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='CrossEntropyLoss', use_soft=True),
    ),
)
# The decay by layers of MMPretrain knows the layers of its networks.
optim_wrapper = dict(
    type='a2mim.AmpOptimWrapper',
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.65,
        norm_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            name: dict(decay_mult=0.0)
            for name in ('.cls_token', '.pos_embed', 'relative_position_bias_table')
        },
    ),
)
param_scheduler = dict(type='a2mim.WarmupCosineLR')
custom_hooks = [
    dict(type='a2mim.WarmupEMAHook', momentum=4e-5, warmup_epochs=20),
]
log_processor = dict(_delete_=True, type='LogProcessor', window_size=50)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=1),
    step_seed=dict(type='a2mim.StepSeedHook'),
)
visualizer = dict(type='UniversalVisualizer')
