"""SimMIM pre-training of ViT-S on ImageNet-1K, 800 epochs, in mixed precision.

Expect 81.7 top-1 after vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep100 (published read-me).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet/vit_small_sz224_8xb256_step_fp16_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/simmim/vit_small.py',
    '../../_base_/schedules/adamw_step_vit.py',
]

# Published in float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(type='AmpOptimWrapper')
