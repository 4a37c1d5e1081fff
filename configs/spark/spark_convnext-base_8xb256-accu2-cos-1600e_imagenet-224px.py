"""SparK pre-training of ConvNeXt-B on ImageNet-1K, 1600 epochs.

Values are those of https://github.com/keyu-tian/SparK, folder pretrain, for batches of 4096 images.

Expect 84.8 top-1 after convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300 (SparK, published read-me).
Deviation: the coarsest map is that after the last norm of the network, which is trained, too; the
published encoder leaves that norm out.
Deviation: during the warm-up the cosine is evaluated, too, so that the rate is up to 0.2 % smaller.
Run: bash tools/dist_train.sh \
         configs/spark/spark_convnext-base_8xb256-accu2-cos-1600e_imagenet-224px.py 8
"""

_base_ = [
    '../openmixup/pretrain/_base_/default_runtime.py',
    '_base_/imagenet_sz224.py',
    '_base_/lamb_cos_1600e.py',
]

train_dataloader = dict(batch_size=256)
model = dict(
    type='SparK',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='TimmBackbone', model_name='convnext_base', drop_path_rate=0.3),
    neck=dict(type='UNetDecoder', width=768),
    head=dict(type='MIMHead', spatial=dict(type='MSELoss')),
)
# Of the decoder: the encoder has layer norms.
sync_bn = 'torch'
optim_wrapper = dict(
    accumulative_counts=2,
    optimizer=dict(betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        rules={'[.]norm[.]|[.]stem[.]1[.]|[.]downsample[.]0[.]': dict(weight_decay=0.0)}
    ),
)
