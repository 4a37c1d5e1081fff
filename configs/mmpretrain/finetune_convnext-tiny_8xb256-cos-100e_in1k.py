"""Fine-tuning of ConvNeXt-T of MMPretrain on ImageNet, RSB A3: the recipe of the base.

Its inferencers take their pipeline from ``test_dataloader``.
Run: mim train onedl-mmpretrain configs/mmpretrain/finetune_convnext-tiny_8xb256-cos-100e_in1k.py
         --cfg-options model.backbone.init_cfg.checkpoint=CKPT
"""

_base_ = ['../openmixup/finetune/imagenet/convnext_t_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100.py']

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
                scale=236,
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
        mixup=dict(mixup_alpha=0.1, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=1000),
    ),
    backbone=dict(
        type='ConvNeXt',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/PRETRAIN/epoch_300.pth',
            prefix='backbone.model.',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
        init_cfg=dict(type='Normal', layer='Linear', std=0.02),
    ),
)
optim_wrapper = dict(type='a2mim.AmpOptimWrapper', constructor='a2mim.ParamRuleConstructor')
param_scheduler = dict(type='a2mim.OverlapCosineLR')
log_processor = dict(_delete_=True, type='LogProcessor', window_size=50)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=1),
    step_seed=dict(type='a2mim.StepSeedHook'),
)
visualizer = dict(type='UniversalVisualizer')
