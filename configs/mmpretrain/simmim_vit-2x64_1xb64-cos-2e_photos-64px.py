"""SimMIM pre-training of a small ViT of MMPretrain on embedded photographs, two epochs: seconds.
Run: mim train onedl-mmpretrain configs/mmpretrain/simmim_vit-2x64_1xb64-cos-2e_photos-64px.py
"""

_base_ = ['../quickstart/a2mim_resnet18_1xb64-cos-15e_photos-64px.py']

custom_imports = dict(imports=['a2mim.mmpretrain'], allow_failed_imports=False)
default_scope = 'mmpretrain'
train_dataloader = dict(
    sampler=dict(type='a2mim.EpochSampler'),
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(_delete_=True, type='HostedDataset', dataset={{_base_.train_dataloader.dataset}}),
)
model = dict(
    type='HostedSimMIM',
    data_preprocessor=dict(type='HostedPreprocessor'),
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch=dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=256),
        img_size=64,
        patch_size=8,
        out_type='featmap',
    ),
    mask_after='patch_embed.projection',
    mask_token=dict(mode='replace'),
    head=dict(_delete_=True, type='a2mim.MIMHead', spatial=dict(type='a2mim.L1Loss')),
)
optim_wrapper = dict(constructor='a2mim.ParamRuleConstructor')
param_scheduler = dict(type='a2mim.WarmupCosineLR', warmup=0)
train_cfg = dict(max_epochs=2)
custom_hooks = []
log_processor = dict(_delete_=True, type='LogProcessor', window_size=10)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
    step_seed=dict(type='a2mim.StepSeedHook'),
)
visualizer = dict(type='UniversalVisualizer')
