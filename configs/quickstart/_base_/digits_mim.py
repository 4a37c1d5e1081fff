"""Masked image modelling on 1,297 handwritten digits, no labels: 25,600 image passes.

Digits of 8 pixels are resized to 16, and 10 of 16 blocks of 4 pixels are masked.
"""

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='Digits', split='train'),
        pipeline=[dict(type='RandomResizedCrop', size=16, scale=(0.8, 1.0))],
        mask=dict(type='BlockMask', image_size=16, block_size=4, ratio=0.6),
    ),
)
model = dict(
    data_preprocessor=dict(type='ImagePreprocessor', mean=[77.0] * 3, std=[96.0] * 3),
    neck=dict(type='PixelShuffleDecoder'),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        rules={
            'norm|bn[0-9]|downsample[.]1|conv1[.][14]': dict(weight_decay=0.0),
            'bias|mask_token|pos_embed': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=2, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=20)
auto_scale_lr = dict(base_batch_size=128, enable=False)
