"""ResNet-18 for images of 32 pixels, with 4×4 positions in the last stage.

Stages 3 and 4 keep the resolution of stage 2 by dilation; timm has no ResNet stem with stride 1.
"""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor',
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet18',
        output_stride=8,
        num_classes=1000,
    ),
    loss=dict(type='CrossEntropyLoss'),
    head_init_std=0.01,
)
