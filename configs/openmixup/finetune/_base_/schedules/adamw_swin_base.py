"""AdamW and a cosine for Swin-B: lr 5e-3 for 2048 images (1.25e-3 per 512), 100 epochs.

The learning rate decays by 0.9 per layer, from the last to the first. The downsampling before a
stage belongs to the layer of the last block before it.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    accumulative_counts=4,
    optimizer=dict(
        type='AdamW',
        lr=5e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,
    ),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        layer_decay=0.9,
        layers=[
            r'patch_embed',
            r'layers\.0\.blocks\.0\.',
            r'layers\.0\.blocks\.1\.|layers\.1\.downsample',
            r'layers\.1\.blocks\.0\.',
            r'layers\.1\.blocks\.1\.|layers\.2\.downsample',
            r'layers\.2\.blocks\.0\.',
            r'layers\.2\.blocks\.1\.',
            r'layers\.2\.blocks\.2\.',
            r'layers\.2\.blocks\.3\.',
            r'layers\.2\.blocks\.4\.',
            r'layers\.2\.blocks\.5\.',
            r'layers\.2\.blocks\.6\.',
            r'layers\.2\.blocks\.7\.',
            r'layers\.2\.blocks\.8\.',
            r'layers\.2\.blocks\.9\.',
            r'layers\.2\.blocks\.10\.',
            r'layers\.2\.blocks\.11\.',
            r'layers\.2\.blocks\.12\.',
            r'layers\.2\.blocks\.13\.',
            r'layers\.2\.blocks\.14\.',
            r'layers\.2\.blocks\.15\.',
            r'layers\.2\.blocks\.16\.',
            r'layers\.2\.blocks\.17\.|layers\.3\.downsample',
            r'layers\.3\.blocks\.0\.',
            r'layers\.3\.blocks\.1\.',
        ],
        rules={
            'norm': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),  # relative position tables too
        },
    ),
)
param_scheduler = dict(
    type='OverlapCosineLR',
    warmup=20,
    warmup_ratio=2e-4,
    eta_min=1e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
