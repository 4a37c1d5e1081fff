"""CIFAR-10 without labels: 48 of the 64 patches of 4 pixels are masked, all images in memory."""

train_dataloader = dict(
    batch_size=128,
    drop_last=True,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(
        type='TensorImageDataset',
        source=dict(type='ImageFolder', root='data/cifar10/train'),
        size=32,
        crop=dict(scale=(0.67, 1.0)),
        flip=0.5,
        mask=dict(type='PatchMask', image_size=32, block_size=4, ratio=0.75),
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        rules={
            'norm[0-9]?[.]|bn[0-9][.]|downsample[.][01][.]': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
            'mask_token': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=1, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=15)
auto_scale_lr = dict(base_batch_size=128, enable=False)
