"""Swin-B with window size 7, for 224 pixels.

Mixup or cutmix, each for half of the batches, with targets smoothed by 0.1.
"""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=1000),
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='swin_base_patch4_window7_224',
        drop_path_rate=0.1,
        num_classes=1000,
    ),
    loss=dict(type='SoftTargetCrossEntropy'),
    head_init_std=0.01,
)
