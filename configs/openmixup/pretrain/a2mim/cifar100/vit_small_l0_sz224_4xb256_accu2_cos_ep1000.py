"""A2MIM pre-training of ViT-S on CIFAR-100, 1000 epochs, in mixed precision.

It has no spectral loss, and the cosine starts together with the warm-up.

Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/cifar100/vit_small_l0_sz224_4xb256_accu2_cos_ep1000.py 4
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/cifar100_sz224_rrc067.py',
    '../../_base_/models/a2mim/vit_small.py',
    '../../_base_/schedules/adamw_cos_vit.py',
]

train_dataloader = dict(num_workers=8)
model = dict(
    data_preprocessor=dict(mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255]),
    head=dict(spectral=None),
)
train_cfg = dict(max_epochs=1000)
# Published in float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(type='AmpOptimWrapper', accumulative_counts=2)
param_scheduler = dict(
    _delete_=True,
    type='OverlapCosineLR',
    warmup=10,
    warmup_ratio=4e-6,
    eta_min=4e-5,
    by_epoch=True,
    convert_to_iter_based=True,
)
default_hooks = dict(logger=dict(interval=20), reconstruction=dict(interval=100))
log_processor = dict(window_size=20)
