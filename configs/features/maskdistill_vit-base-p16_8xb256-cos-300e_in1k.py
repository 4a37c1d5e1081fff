"""MaskDistill pre-training of ViT-B/16 on ImageNet-1K, 300 epochs, with CLIP's ViT-B/16 as teacher.

The authors of https://arxiv.org/abs/2210.10615 have published no code: values are those of
https://github.com/drkostas/MaskDistill-PyTorch, configs/pretrain.yaml, which repeats the paper. The
target is the output of the last block, normalised. timm downloads the teacher's weights, or from a
file: model.teacher.pretrained=False and model.teacher.init_cfg.

Deviation: blocks of 32 pixels are masked at random; published are rectangles of patches.
Deviation: colours are not jittered.
Run: bash tools/dist_train.sh configs/features/maskdistill_vit-base-p16_8xb256-cos-300e_in1k.py 8
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
            dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=224, block_size=32, ratio=0.4),
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
        init_values=0.1,
        drop_path_rate=0.1,
        mask_after='patch_embed',
        mask_token=dict(mode='replace'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='HuberLoss', beta=1.0)),
    teacher=dict(
        type='TimmBackbone', model_name='vit_base_patch16_clip_224.openai', pretrained=True
    ),
    layers=1,
)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(rules={'norm|gamma|cls_token|[._]bias$': dict(weight_decay=0.0)}),
)
param_scheduler = dict(
    type='WarmupCosineLR',
    warmup=10,
    warmup_ratio=0.0067,
    eta_min=1e-5,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=300)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
custom_hooks = [dict(type='UnlabelledProbeHook', interval=None)]
