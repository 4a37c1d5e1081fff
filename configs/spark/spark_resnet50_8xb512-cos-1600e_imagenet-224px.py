"""SparK pre-training of ResNet-50 on ImageNet-1K, 1600 epochs.

The published read-me reports 80.6 top-1 after fine-tuning for 300 epochs. Values are those of
https://github.com/keyu-tian/SparK, folder pretrain, for batches of 4096 images.

Deviation: during the warm-up the cosine is evaluated, too, so that the rate is up to 0.2 % smaller.
Run: bash tools/dist_train.sh configs/spark/spark_resnet50_8xb512-cos-1600e_imagenet-224px.py 8
"""

_base_ = [
    '../openmixup/pretrain/_base_/default_runtime.py',
    '_base_/imagenet_sz224.py',
    '_base_/lamb_cos_1600e.py',
]

model = dict(
    type='SparK',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='TimmBackbone', model_name='resnet50', drop_path_rate=0.05),
    neck=dict(type='UNetDecoder', width=768),
    head=dict(type='MIMHead', spatial=dict(type='MSELoss')),
)
sync_bn = 'torch'
optim_wrapper = dict(
    optimizer=dict(betas=(0.9, 0.95)),
    paramwise_cfg=dict(rules={'[.](bn[0-9]|downsample[.]1)[.]': dict(weight_decay=0.0)}),
)
