"""A2MIM pre-training of ViT-B of MMPretrain on ImageNet: the recipe of the base.
Run: mim train onedl-mmpretrain configs/mmpretrain/a2mim_vit-base-p16_8xb128-step-800e_in1k.py
"""

_base_ = ['../openmixup/pretrain/a2mim/imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800.py']

custom_imports = dict(imports=['a2mim.mmpretrain'], allow_failed_imports=False)
default_scope = 'mmpretrain'
train_dataloader = dict(
    sampler=dict(type='a2mim.EpochSampler'),
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(_delete_=True, type='HostedDataset', dataset={{_base_.train_dataloader.dataset}}),
)
model = dict(
    type='HostedA2MIM',
    data_preprocessor=dict(type='HostedPreprocessor'),
    backbone=dict(
        _delete_=True,
        type='BEiTViT',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        norm_cfg=dict(type='LN', eps=1e-6),
        final_norm=True,
        layer_scale_init_value=0.1,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        out_type='featmap',
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
    ),
    mask_after='patch_embed.projection',
    mask_token=dict(mode='add'),
)
optim_wrapper = dict(constructor='a2mim.ParamRuleConstructor')
param_scheduler = dict(type='a2mim.WarmupStepLR')
log_processor = dict(_delete_=True, type='LogProcessor', window_size=50)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=1),
    step_seed=dict(type='a2mim.StepSeedHook'),
)
visualizer = dict(type='UniversalVisualizer')
