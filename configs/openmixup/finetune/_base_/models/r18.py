"""ResNet-18 with the plain cross-entropy."""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet18',
        num_classes=1000,
    ),
    loss=dict(type='CrossEntropyLoss'),
    head_init_std=0.01,
)
