"""Fine-tuning of the ViT-S of the paper on ImageNet-1K with SimMIM's recipe, 100 epochs.

The published read-me compares A2MIM after 200 epochs of fine-tuning with SimMIM after 100.

Run: bash tools/dist_train_ft_8gpu.sh \
  configs/openmixup/finetune/imagenet/vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep100.py \
  CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/vit_small.py',
    '../_base_/schedules/adamw_swin_ft.py',
]

train_dataloader = dict(num_workers=10)
