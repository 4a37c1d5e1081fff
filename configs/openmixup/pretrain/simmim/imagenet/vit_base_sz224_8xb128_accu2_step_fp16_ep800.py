"""SimMIM pre-training of ViT-B on ImageNet-1K, 800 epochs, in mixed precision.

Expect 83.8 top-1 after vit_base_p16_swin_ft_simmim_sz224_4xb128_accu2_cos_ep100 (published
read-me).
Deviation: the published config trains in float32. This config trains in mixed precision, as its
name says.
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/imagenet/vit_base_sz224_8xb128_accu2_step_fp16_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/simmim/vit_base.py',
    '../../_base_/schedules/adamw_step_vit.py',
]

train_dataloader = dict(batch_size=128, num_workers=10)
# Named float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(type='AmpOptimWrapper', accumulative_counts=2)
