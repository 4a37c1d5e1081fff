"""A2MIM pre-training of ConvNeXt-T of MMPretrain on ImageNet: the recipe of the base.
Run: mim train onedl-mmpretrain configs/mmpretrain/a2mim_convnext-tiny_8xb256-cos-300e_in1k.py
"""

_base_ = ['../openmixup/pretrain/a2mim/imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300.py']

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
    backbone=dict(_delete_=True, type='ConvNeXt', arch='tiny', gap_before_final_norm=False),
    mask_after='downsample_layers.3',
    mask_token=dict(mode='add', gamma_init=1e-06, init='zero'),
)
optim_wrapper = dict(type='a2mim.AmpOptimWrapper', constructor='a2mim.ParamRuleConstructor')
param_scheduler = dict(type='a2mim.WarmupCosineLR')
log_processor = dict(_delete_=True, type='LogProcessor', window_size=50)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=1),
    step_seed=dict(type='a2mim.StepSeedHook'),
)
visualizer = dict(type='UniversalVisualizer')
