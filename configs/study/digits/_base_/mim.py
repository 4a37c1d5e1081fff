"""Digits without labels at 16 pixels, in memory: 10 of the 16 patches of 4 pixels are masked."""

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(
        type='TensorImageDataset',
        source=dict(type='Digits', split='train'),
        size=16,
        # A mirrored digit is another shape: no flips.
        crop=dict(scale=(0.6, 1.0)),
        mask=dict(type='PatchMask', image_size=16, block_size=4, ratio=0.6),
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        rules={
            'norm[0-9]?[.]|bn[0-9][.]|downsample[.][01][.]': dict(weight_decay=0.0),
            'bias|pos_embed|mask_token': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=2, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
auto_scale_lr = dict(base_batch_size=64, enable=False)
