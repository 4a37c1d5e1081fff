"""UPerNet with ConvNeXt-T on ADE20K, 160k iterations, 8 GPUs with 2 images each.

No result was published for A2MIM with this model. All values are those of MMSegmentation's config
for ConvNeXt-T, which follow Liu et al., A ConvNet for the 2020s, CVPR 2022
(https://arxiv.org/abs/2201.03545).

Deviations from it: the backbone is timm's, without additional norms on its feature maps; mixed
precision uses bfloat16 where the GPU supports it.

Run: bash seg_mmsegmentation/mim_dist_train.sh \
         seg_mmsegmentation/configs/ade20k/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py \
         PRETRAIN 8
"""

_base_ = ['mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py']

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='a2mim.TimmBackbone',
        model_name='convnext_tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768], channels=512, num_classes=150),
    auxiliary_head=dict(in_channels=384, channels=256, num_classes=150),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    _delete_=True,
    type='a2mim.AmpOptimWrapper',
    constructor='a2mim.ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        rules={
            # 0.9 to the power of 6, 5, 4 and 3 in stages 0 to 3, and of 7 in stem and downsampling.
            '[.]stages[.]0[.]': dict(lr_mult=0.531441),
            '[.]stages[.]1[.]': dict(lr_mult=0.59049),
            '[.]stages[.]2[.]': dict(lr_mult=0.6561),
            '[.]stages[.]3[.]': dict(lr_mult=0.729),
            '[.](stem|downsample)[.]': dict(lr_mult=0.4782969),
            'norm': dict(weight_decay=0.0),
            '[.]bn[.]': dict(weight_decay=0.0),
            '[.]bias$': dict(weight_decay=0.0),
            'gamma': dict(weight_decay=0.0),
            '[.](stem[.]1|downsample[.]0)[.]': dict(weight_decay=0.0),  # norms with other names
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
