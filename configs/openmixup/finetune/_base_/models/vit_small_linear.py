"""The ViT-S of the paper, frozen: a linear layer reads the class token after the last norm.

Targets are smoothed by 0.1.
"""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='beit_base_patch16_224',
        embed_dim=768,
        depth=8,
        num_heads=8,
        mlp_ratio=3,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=0.1,
        global_pool='token',
        num_classes=1000,
    ),
    loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
    head_init_std=0.01,
    frozen_trunk=True,
)
