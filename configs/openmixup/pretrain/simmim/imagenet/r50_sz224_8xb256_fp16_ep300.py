"""SimMIM pre-training of ResNet-50 on ImageNet-1K, 300 epochs, the baseline of the paper.

Expect 79.9 top-1 after r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300 (published read-me).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet/r50_sz224_8xb256_fp16_ep300.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/simmim/r50.py',
    '../../_base_/schedules/adamw_cos.py',
]

# Published in float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(lr=8e-4),  # 2e-4 per 512 images
    paramwise_cfg=dict(rules={'mask_token': dict(weight_decay=0.0)}),
)
