"""ResNet-101 with the binary cross-entropy, mixup and cutmix of RSB.

Mixup or cutmix, each for half of the batches. The loss is summed over classes and its targets are
not thresholded at 0.2, as in the reference implementation (OpenMixup) and unlike the RSB paper.
"""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        mixup=dict(mixup_alpha=0.1, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=1000),
    ),
    backbone=dict(type='TimmBackbone', model_name='resnet101', num_classes=1000),
    loss=dict(type='BinaryCrossEntropy', smoothing=0.0, sum_classes=True),
    head_init_std=0.01,
)
sync_bn = 'torch'
