"""UPerNet with a ViT-B of MAE on ADE20K at 512 pixels, 160k iterations, 8 GPUs with 2 images each.

For backbones with absolute position embeddings only, such as those of MAE and timm's ViTs. No
result is reported for A2MIM with it.

Deviations from the published config: the backbone has neither the factors of LayerScale, which the
published config initialises with 1, nor relative position tables, which it initialises with 0: no
such backbone has weights for them. Its last feature map passes the last norm of pre-training.
Position embeddings and class token have no weight decay, which the published rule intends but does
not achieve. Mixed precision uses bfloat16 where the GPU supports it.

Run: bash seg_mmsegmentation/mim_dist_train.sh \
         seg_mmsegmentation/configs/ade20k/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py \
         PRETRAIN 8
"""

_base_ = ['mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py']

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='a2mim.TimmBackbone',
        model_name='vit_base_patch16_224',
        img_size=512,
        out_indices=(3, 5, 7, 11),
        drop_path_rate=0.1,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    neck=dict(embed_dim=768, rescales=[4, 2, 1, 0.5]),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768, num_classes=150),
    auxiliary_head=dict(in_channels=768, channels=256, num_classes=150),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    _delete_=True,
    type='a2mim.AmpOptimWrapper',
    constructor='a2mim.ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay=0.65,
        # Embeddings, each block, and the last norm with the heads; timm puts it in a block.
        layers=[
            r'(?:cls_token|pos_embed|patch_embed)',
            r'blocks\.0\.',
            r'blocks\.1\.',
            r'blocks\.2\.',
            r'blocks\.3\.',
            r'blocks\.4\.',
            r'blocks\.5\.',
            r'blocks\.6\.',
            r'blocks\.7\.',
            r'blocks\.8\.',
            r'blocks\.9\.',
            r'blocks\.10\.',
            r'blocks\.11\.',
            r'norm',
        ],
        rules={
            'norm': dict(weight_decay=0.0),
            '[.]bn[.]': dict(weight_decay=0.0),
            '[._]bias$': dict(weight_decay=0.0),
            'cls_token': dict(weight_decay=0.0),
            'pos_embed': dict(weight_decay=0.0),
            'upsample_4x[.]1[.]': dict(weight_decay=0.0),  # a norm with another name
        },
    ),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]
train_cfg = dict(max_iters=160000, val_interval=16000)
default_hooks = dict(
    checkpoint=dict(type='a2mim.CheckpointHook', interval=16000, max_keep_ckpts=1, save_best='mIoU')
)
