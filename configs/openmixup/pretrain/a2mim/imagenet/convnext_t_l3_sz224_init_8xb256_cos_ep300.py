"""A2MIM pre-training of ConvNeXt-T on ImageNet-1K, 300 epochs, in mixed precision.

Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc08.py',
    '../../_base_/models/a2mim/convnext_t.py',
    '../../_base_/schedules/adamw_cos.py',
]

# Published in float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    paramwise_cfg=dict(
        rules={
            'mask_token': dict(weight_decay=0.0, lr_mult=0.1),
            'gamma': dict(weight_decay=0.0),
        }
    ),
)
