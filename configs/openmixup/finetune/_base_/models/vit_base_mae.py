"""ViT-B as in MAE, for fine-tuning: no relative position embeddings and no layer scale.

Mixup or cutmix, each for half of the batches, with targets smoothed by 0.1. The head normalises the
mean over the patches; the class token and the last norm of pre-training are not used.
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
        model_name='vit_base_patch16_224',
        drop_path_rate=0.1,
        global_pool='avg',
        num_classes=1000,
    ),
    loss=dict(type='SoftTargetCrossEntropy'),
    head_init_std=0.01,
)
