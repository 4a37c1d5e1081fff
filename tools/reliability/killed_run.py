"""The run that ``kill_and_resume.py`` kills: A2MIM on 28 patches of photographs, 28 iterations.

It draws crops, flips, masks and dropped blocks, keeps an average of the weights, and saves every
third iteration, so also in the middle of an epoch of seven.
Run: python tools/reliability/kill_and_resume.py
"""

default_scope = 'a2mim'

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='PhotoPatches', split='train', labels_per_class=2),
        pipeline=[dict(type='RandomResizedCrop', size=32), dict(type='RandomFlip')],
        mask=dict(type='BlockMask', image_size=32, block_size=16, ratio=0.5),
    ),
)
model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='test_vit',
        mask_after='blocks.0',
        img_size=32,
        drop_path_rate=0.2,
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
    ),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, fused=True))
param_scheduler = dict(type='CosineAnnealingLR', T_max=28, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=4)
auto_scale_lr = dict(base_batch_size=4, enable=False)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3, max_keep_ckpts=2),
)
custom_hooks = [dict(type='WarmupEMAHook', momentum=0.1, warmup_epochs=1)]
randomness = dict(seed=0)
