"""A2MIM pre-training of ResNet-50 of MMPretrain on ImageNet: the recipe of the base.
Run: mim train onedl-mmpretrain configs/mmpretrain/a2mim_resnet50_8xb256-cos-300e_in1k.py
"""

_base_ = ['../openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300.py']

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
    backbone=dict(_delete_=True, type='ResNet', depth=50),
    mask_after='layer3',
    mask_token=dict(mode='add', gamma_init=1e-06),
)
optim_wrapper = dict(constructor='a2mim.ParamRuleConstructor')
param_scheduler = dict(type='a2mim.WarmupCosineLR')
log_processor = dict(_delete_=True, type='LogProcessor', window_size=50)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=1),
    step_seed=dict(type='a2mim.StepSeedHook'),
)
visualizer = dict(type='UniversalVisualizer')
