"""SimMIM with ViT-B: patch embeddings are replaced, the image is not filled.

As for A2MIM: timm's ``Beit`` with absolute and relative position embeddings, and layer scale.
"""

model = dict(
    type='SimMIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='beit_base_patch16_224',
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=0.1,
        drop_path_rate=0.1,
        mask_after='patch_embed',
        mask_token=dict(mode='replace'),
        # timm scales deeper layers down; the published ViTs initialise all layers alike.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
)
