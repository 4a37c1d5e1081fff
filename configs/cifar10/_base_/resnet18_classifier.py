"""ResNet-18 for images of 32 pixels: 4×4 features at the end, weights as in any other ResNet-18."""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[125.3, 123.0, 113.9], std=[51.6, 50.8, 51.3]
    ),
    backbone=dict(type='TimmBackbone', model_name='resnet18', output_stride=8, num_classes=10),
    loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
)
