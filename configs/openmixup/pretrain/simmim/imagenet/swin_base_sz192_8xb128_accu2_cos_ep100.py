"""SimMIM pre-training of Swin-B at 192 pixels on ImageNet-1K, 100 epochs.

Expect 82.9 top-1 after swin_base_swin_ft_sz192_4xb128_accu4_cos_ep100 (published read-me, after
the authors of SimMIM).
Expect 83.5 top-1 after swin_base_swin_ft_sz224_4xb128_accu4_cos_ep100 (published read-me, after
the authors of SimMIM).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep100.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz192_rrc067.py',
    '../../_base_/models/simmim/swin_base.py',
    '../../_base_/schedules/adamw_cos_swin.py',
]

train_cfg = dict(max_epochs=100)
optim_wrapper = dict(accumulative_counts=2)
