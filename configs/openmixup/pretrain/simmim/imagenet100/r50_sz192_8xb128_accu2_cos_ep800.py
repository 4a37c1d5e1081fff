"""SimMIM pre-training of ResNet-50 at 192 pixels on ImageNet-100, 800 epochs.

Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet100/r50_sz192_8xb128_accu2_cos_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet100_sz192_rrc067.py',
    '../../_base_/models/simmim/r50.py',
    '../../_base_/schedules/adamw_cos.py',
]

train_dataloader = dict(batch_size=128, num_workers=6)
train_cfg = dict(max_epochs=800)
optim_wrapper = dict(
    accumulative_counts=2,
    optimizer=dict(lr=8e-4),  # 2e-4 per 512 images
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(rules={'mask_token': dict(weight_decay=0.0)}),
)
# The cosine starts together with the warm-up, not after it.
param_scheduler = dict(
    _delete_=True,
    type='OverlapCosineLR',
    warmup=10,
    warmup_ratio=1e-6,
    eta_min=4e-5,
    by_epoch=True,
    convert_to_iter_based=True,
)
default_hooks = dict(reconstruction=dict(interval=100))
