"""SparK pre-training of a ResNet-10 at output stride 8 on photographs, in minutes.

The data, the network and the length are those of
configs/quickstart/a2mim_resnet10t_1xb32-cos-6e_photos-64px.py.
Run: python tools/train.py configs/spark/spark_resnet10t_1xb32-cos-6e_photos-64px.py
"""

_base_ = ['../quickstart/_base_/runtime.py']

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
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
        mask=dict(type='BlockMask', image_size=64, block_size=8, ratio=0.6),
    ),
)
model = dict(
    type='SparK',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet10t',
        channels=(32, 64, 128, 256),
        output_stride=8,
        zero_init_last=False,
    ),
    neck=dict(type='UNetDecoder', width=128),
    head=dict(type='MIMHead', spatial=dict(type='MSELoss')),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        rules={
            '[.](bn[0-9]|downsample[.]1|conv1[.][14])[.]': dict(weight_decay=0.0),
            '^norms[.]|^neck[.]blocks[.][0-9]+[.][25][.]': dict(weight_decay=0.0),
            'bias|mask_embeddings': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=1, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=6)
auto_scale_lr = dict(base_batch_size=32, enable=False)
default_hooks = dict(reconstruction=dict(type='ReconstructionHook', interval=2))
