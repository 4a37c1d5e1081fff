"""UPerNet with ViT-B on ADE20K at 640 pixels, 160k iterations, 8 GPUs with 2 images each.

Reported for A2MIM with ViT-B on ADE20K: 49.0 mIoU; the source does not say at which size.

Deviations from the published config: the backbone keeps the absolute position embeddings of
pre-training in addition to the relative ones, both resized to 640 pixels; its last feature map
passes the last norm of pre-training; absolute position embeddings and class token have no weight
decay, which the published rule intends but does not achieve.

Run: bash seg_mmsegmentation/mim_dist_train.sh \
         seg_mmsegmentation/configs/ade20k/vit-base-p16_upernet_8xb2-160k_ade20k-640x640.py \
         PRETRAIN 8
"""

_base_ = ['mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py']

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='a2mim.TimmBackbone',
        model_name='beit_base_patch16_224',
        img_size=640,
        out_indices=(3, 5, 7, 11),
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=0.1,
        drop_path_rate=0.1,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    neck=dict(embed_dim=768, rescales=[4, 2, 1, 0.5]),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768, num_classes=150),
    auxiliary_head=dict(in_channels=768, channels=256, num_classes=150),
    test_cfg=dict(mode='slide', crop_size=(640, 640), stride=(426, 426)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='a2mim.ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay=0.9,
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
            'gamma': dict(weight_decay=0.0),
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
