"""Fine-tuning of BEiT-B on ImageNet-1K, 100 epochs.

Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/beit_base_p16_ft_sz224_8xb128_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/beit_base.py',
    '../_base_/schedules/adamw_swin_ft.py',
]

optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = dict(
    _delete_=True,
    type='OverlapCosineLR',
    warmup=5,
    warmup_ratio=1e-4,
    eta_min=1e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
