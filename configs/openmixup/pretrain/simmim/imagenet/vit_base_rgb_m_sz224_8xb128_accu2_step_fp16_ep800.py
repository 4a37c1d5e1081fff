"""SimMIM pre-training of ViT-B on images filled with their mean colour, 800 epochs.

An ablation: hidden blocks are filled in the image too, as A2MIM does.

Deviation: the published file takes the filled image as the target, a constant where it is hidden.
Here the target is the image itself.
Deviation: the published file trains in float32. This one trains in mixed precision, as its name
says.
Run: bash tools/dist_train.sh \
  configs/openmixup/pretrain/simmim/imagenet/vit_base_rgb_m_sz224_8xb128_accu2_step_fp16_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/simmim/vit_base.py',
    '../../_base_/schedules/adamw_step_vit.py',
]

# The SimMIM class never fills.
model = dict(type='A2MIM', fill='mean')
train_dataloader = dict(batch_size=128, num_workers=10)
# Named float16; bfloat16 is taken where the GPU has it.
optim_wrapper = dict(type='AmpOptimWrapper', accumulative_counts=2)
