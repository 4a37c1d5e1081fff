"""ResNet-50 as a classifier of ten classes, with ImageNet's mean and std."""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='TimmBackbone', model_name='resnet50', in_chans=3, num_classes=10),
    loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
)
