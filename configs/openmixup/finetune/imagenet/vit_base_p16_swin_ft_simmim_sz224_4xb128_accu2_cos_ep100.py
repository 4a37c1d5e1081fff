"""Fine-tuning of ViT-B on ImageNet-1K with the training recipe of SimMIM, 100 epochs.

An exponential moving average of the weights is tested and saved.

Deviation: the published config sets mix_repeat=2 in the backbone, where nothing reads it. This
config omits it.
Run: bash tools/dist_train_ft_4gpu.sh \
  configs/openmixup/finetune/imagenet/vit_base_p16_swin_ft_simmim_sz224_4xb128_accu2_cos_ep100.py \
  CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/vit_base.py',
    '../_base_/schedules/adamw_swin_ft.py',
]

optim_wrapper = dict(accumulative_counts=2)
custom_hooks = [dict(type='WarmupEMAHook', momentum=4e-5, warmup_epochs=20)]
