"""SimMIM pre-training of Swin-B at 192 pixels on ImageNet-1K, 800 epochs.

The learning rate falls in one step, as published and as in SimMIM, although the published name says
cosine.

Expect 84.0 top-1 after swin_base_swin_ft_sz224_4xb128_accu4_cos_ep100 (published read-me, after
the authors of SimMIM).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz192_rrc067.py',
    '../../_base_/models/simmim/swin_base.py',
    '../../_base_/schedules/adamw_cos_swin.py',
]

optim_wrapper = dict(accumulative_counts=2, optimizer=dict(lr=4e-4))  # 1e-4 per 512 images
param_scheduler = dict(
    _delete_=True,
    type='WarmupStepLR',
    warmup=10,
    warmup_ratio=2e-6,
    milestones=[700],
    gamma=0.1,
    by_epoch=True,
    convert_to_iter_based=True,
)
