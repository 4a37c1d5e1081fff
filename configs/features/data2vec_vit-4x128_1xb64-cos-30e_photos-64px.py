"""Feature targets: a ViT, 4 blocks 128 wide with patches of 8 pixels, on photographs: minutes.

The teacher is an average of the network over 100 steps, as Data2Vec has one over 5000. Data,
network and length are those of configs/mae/mae_vit-4x128_1xb64-cos-30e_photos-64px.py.
Run: python tools/train.py configs/features/data2vec_vit-4x128_1xb64-cos-30e_photos-64px.py
"""

_base_ = ['../quickstart/_base_/runtime.py']

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='PhotoPatches', split='train'),
        pipeline=[
            dict(type='RandomResizedCrop', size=64, scale=(0.3, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=64, block_size=16, ratio=0.6),
    ),
)
model = dict(
    type='FeatureMIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_tiny_patch16_224',
        img_size=64,
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        mask_after='patch_embed',
        mask_token=dict(mode='replace'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='HuberLoss', beta=2.0)),
    teacher='ema',
    decay=0.99,
    layers=2,
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(rules={'norm|bias|mask_token': dict(weight_decay=0.0)}),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=3, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=30)
auto_scale_lr = dict(base_batch_size=64, enable=False)
default_hooks = dict(reconstruction=dict(type='ReconstructionHook', interval=10))
custom_hooks = [dict(type='UnlabelledProbeHook', interval=5)]
