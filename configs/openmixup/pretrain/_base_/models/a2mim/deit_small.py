"""A2MIM with DeiT-S at 192 pixels: masked after the patch embedding, focal frequency loss.

384 wide and 12 deep, with the absolute and relative position embeddings of the paper's ViTs: timm's
``Beit`` in another size.
"""

model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='beit_base_patch16_224',
        img_size=192,
        embed_dim=384,
        depth=12,
        num_heads=6,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=0.1,
        drop_path_rate=0.1,
        mask_after='patch_embed',
        mask_token=dict(mode='add'),
        # timm scales deeper layers down; the published ViTs initialise all layers alike.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
        visible_fill='mixed',
    ),
)
