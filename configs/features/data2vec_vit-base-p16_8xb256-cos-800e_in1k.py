"""Data2Vec pre-training of ViT-B/16 on ImageNet-1K, 800 epochs.

Values are those of the command for ViT-B in the read-me of
https://github.com/facebookresearch/data2vec_vision, folder beit, and what it leaves out those of
BEiT, from which that is derived: 16 processes of 128 images there, 8 of 256 here. The paper reports
84.2 top-1 after fine-tuning (https://arxiv.org/abs/2202.03555, Table 1), which has not been
repeated with this config.

Deviation: blocks of 32 pixels are masked at random; published are rectangles of patches.
Deviation: colours are not jittered.
Run: bash tools/dist_train.sh configs/features/data2vec_vit-base-p16_8xb256-cos-800e_in1k.py 8
"""

_base_ = ['../openmixup/pretrain/_base_/default_runtime.py']

train_dataloader = dict(
    batch_size=256,  # per GPU
    num_workers=12,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='ImageFolder', root='data/ImageNet/train'),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=224, block_size=32, ratio=0.6),
    ),
)
model = dict(
    type='FeatureMIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='beit_base_patch16_224',
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        init_values=1e-4,
        drop_path_rate=0.25,
        attn_drop_rate=0.05,
        mask_after='patch_embed',
        mask_token=dict(mode='replace'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='HuberLoss', beta=2.0)),
    teacher='ema',
    decay=0.9998,
    layers=6,
)
optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 where the GPU supports it
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(rules={'norm|gamma|cls_token|[._]bias$': dict(weight_decay=0.0)}),
)
param_scheduler = dict(
    type='WarmupCosineLR',
    warmup=10,
    warmup_ratio=5e-4,
    eta_min=1e-5,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
custom_hooks = [dict(type='UnlabelledProbeHook', interval=None)]
