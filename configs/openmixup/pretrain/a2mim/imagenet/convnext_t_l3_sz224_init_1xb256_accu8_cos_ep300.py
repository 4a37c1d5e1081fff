"""A2MIM pre-training of ConvNeXt-T on ImageNet-1K, 300 epochs, on one GPU.

Ours: the config for 8 GPUs, with its global batch of 2048 reached by gradient accumulation. No
layer mixes images, and the losses see 256 images at a time, as on each of 8 GPUs, so that only the
random draws differ. No result was published or measured for it.

Run: bash tools/dist_train.sh \
  configs/openmixup/pretrain/a2mim/imagenet/convnext_t_l3_sz224_init_1xb256_accu8_cos_ep300.py 1
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
    accumulative_counts=8,
    paramwise_cfg=dict(
        rules={
            'mask_token': dict(weight_decay=0.0, lr_mult=0.1),
            'gamma': dict(weight_decay=0.0),
        }
    ),
)
