"""SimMIM pre-training of Swin-T at 192 pixels on ImageNet-100, 800 epochs.

The weights of norms decay: the published rules name bn, ln and gn, as no norm of Swin is called.
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet100/swin_tiny_sz192_8xb128_accu2_cos_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet100_sz192_rrc067.py',
    '../../_base_/models/simmim/swin_tiny.py',
    '../../_base_/schedules/adamw_cos_swin.py',
]

train_dataloader = dict(batch_size=128, num_workers=6)
optim_wrapper = dict(
    accumulative_counts=2,
    paramwise_cfg=dict(
        rules=dict(
            _delete_=True,
            bias=dict(weight_decay=0.0),  # relative position tables too
            mask_token=dict(weight_decay=0.0),
        )
    ),
)
default_hooks = dict(reconstruction=dict(interval=100))
