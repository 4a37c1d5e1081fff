"""ResNet-50, frozen, with a linear layer after each of its four stages.

The batch norms before the linear layers synchronise their statistics across all GPUs.
"""

model = dict(
    type='StageProbe',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='TimmBackbone', model_name='resnet50'),
    loss=dict(type='CrossEntropyLoss'),
    num_classes=1000,
    stages=[1, 2, 3, 4],  # 0 is the stem
)
sync_bn = 'torch'
