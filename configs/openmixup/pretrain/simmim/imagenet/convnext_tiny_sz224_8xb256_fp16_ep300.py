"""SimMIM pre-training of ConvNeXt-T on ImageNet-1K, 300 epochs.

Deviation: the published config adds a token initialised with 0 to the features of the complete
image, so that nothing is masked. Here the token replaces masked features, as in the SimMIM paper.
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet/convnext_tiny_sz224_8xb256_fp16_ep300.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/simmim/convnext_tiny.py',
    '../../_base_/schedules/adamw_cos.py',
]

# Published in float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(lr=8e-4),  # 2e-4 per 512 images
    paramwise_cfg=dict(
        rules={
            'mask_token': dict(weight_decay=0.0),
            'gamma': dict(weight_decay=0.0),
        }
    ),
)
