"""Fine-tuning of the small ResNet-18 of MMPretrain on 70 photographs, two epochs: seconds.

Its inferencers take their pipeline from ``test_dataloader``.
Run: mim train onedl-mmpretrain
         configs/mmpretrain/finetune_resnet18-slim_1xb35-cos-2e_photos-64px.py
         --cfg-options model.backbone.init_cfg.checkpoint=CKPT
"""

_base_ = ['../quickstart/finetune_resnet18_1xb35-cos-40e_photos-64px.py']

custom_imports = dict(imports=['a2mim.mmpretrain'], allow_failed_imports=False)
default_scope = 'mmpretrain'
# MMPretrain's launcher takes True where nothing is said.
train_dataloader = dict(
    persistent_workers=False,
    sampler=dict(type='a2mim.EpochSampler'),
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(_delete_=True, type='HostedDataset', dataset={{_base_.train_dataloader.dataset}}),
)
val_dataloader = dict(
    persistent_workers=False,
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HostedImages',
        source={{_base_.val_dataloader.dataset.source}},
        pipeline=[
            dict(type='Resize', scale=64),
            dict(type='PackInputs'),
        ],
        test_mode=True,
    ),
)
test_dataloader = dict(
    persistent_workers=False,
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HostedImages',
        source={{_base_.test_dataloader.dataset.source}},
        pipeline=[
            dict(type='Resize', scale=64),
            dict(type='PackInputs'),
        ],
        test_mode=True,
    ),
)
model = dict(
    _delete_=True,
    type='ImageClassifier',
    data_preprocessor=dict(
        type='HostedPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=16,
        base_channels=16,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/a2mim_resnet18-slim_1xb64-cos-2e_photos-64px/epoch_2.pth',
            prefix='backbone.model.',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=14,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
optim_wrapper = dict(constructor='a2mim.ParamRuleConstructor')
param_scheduler = dict(type='a2mim.WarmupCosineLR', warmup=0)
train_cfg = dict(max_epochs=2, val_interval=2)
log_processor = dict(_delete_=True, type='LogProcessor', window_size=1)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=2, max_keep_ckpts=1),
    step_seed=dict(type='a2mim.StepSeedHook'),
)
visualizer = dict(type='UniversalVisualizer')
