"""Feature targets for ResNet-50 on ImageNet-1K, 300 epochs: the network's average as teacher.

An experiment of this package, of which nobody has published or measured a result: mask, optimiser
and schedule are those of A2MIM for ResNet-50, loss and average those of Data2Vec for ViT-B, which
looks back over as many epochs here. The target is the last stage.
Run: bash tools/dist_train.sh configs/features/data2vec_resnet50_8xb256-cos-300e_in1k.py 8
"""

_base_ = [
    '../openmixup/pretrain/_base_/default_runtime.py',
    '../openmixup/pretrain/_base_/datasets/imagenet_sz224_rrc08.py',
    '../openmixup/pretrain/_base_/schedules/adamw_cos.py',
]

model = dict(
    type='FeatureMIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet50',
        mask_after='layer3',
        mask_token=dict(mode='add', gamma_init=1e-6),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='HuberLoss', beta=2.0)),
    teacher='ema',
    decay=0.9998,
    layers=1,
)
sync_bn = 'torch'
optim_wrapper = dict(
    paramwise_cfg=dict(rules={'mask_token[.]token': dict(weight_decay=0.0, lr_mult=0.1)})
)
custom_hooks = [dict(type='UnlabelledProbeHook', interval=None)]
