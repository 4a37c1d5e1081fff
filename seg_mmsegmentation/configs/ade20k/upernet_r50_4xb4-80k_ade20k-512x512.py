"""UPerNet with ResNet-50 on ADE20K, 80k iterations, 4 GPUs with 4 images each.

The shorter of the two schedules; no result is reported for A2MIM with it. All values are those of
MMSegmentation's config.

Deviation from it: the backbone has the plain stem, for which there are pre-trained weights.

Run: bash seg_mmsegmentation/mim_dist_train.sh \
         seg_mmsegmentation/configs/ade20k/upernet_r50_4xb4-80k_ade20k-512x512.py PRETRAIN 4
"""

_base_ = ['mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py']

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(
        type='ResNet', init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN')
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(
    checkpoint=dict(type='a2mim.CheckpointHook', interval=8000, max_keep_ckpts=1, save_best='mIoU')
)
