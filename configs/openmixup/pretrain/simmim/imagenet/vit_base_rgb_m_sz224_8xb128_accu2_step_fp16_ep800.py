"""SimMIM pre-training of ViT-B on images filled with their mean colour, 800 epochs.

An ablation: masked patches are filled in the image too, as in A2MIM.

Deviation: the published config uses the filled image as the target, which is constant in masked
patches. Here the target is the original image.
Deviation: the published config trains in float32. This config trains in mixed precision, as its
name says.
Run: bash tools/dist_train.sh \
  configs/openmixup/pretrain/simmim/imagenet/vit_base_rgb_m_sz224_8xb128_accu2_step_fp16_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/simmim/vit_base.py',
    '../../_base_/schedules/adamw_step_vit.py',
]

# SimMIM does not fill the image.
model = dict(type='A2MIM', fill='mean')
train_dataloader = dict(batch_size=128, num_workers=10)
# Named float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(type='AmpOptimWrapper', accumulative_counts=2)
