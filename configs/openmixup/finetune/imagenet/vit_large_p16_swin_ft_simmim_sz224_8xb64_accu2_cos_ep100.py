"""Fine-tuning of ViT-L on ImageNet-1K with the training recipe of SimMIM, 100 epochs.

An exponential moving average of the weights is tested and saved.

Run: bash tools/dist_train_ft_8gpu.sh \
  configs/openmixup/finetune/imagenet/vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100.py \
  CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/vit_large.py',
    '../_base_/schedules/adamw_swin_ft.py',
]

# Repeated augmentation, unlike for the smaller ViTs.
train_dataloader = dict(batch_size=64, sampler=dict(type='RepeatedEpochSampler', num_repeats=3))
optim_wrapper = dict(accumulative_counts=2)
custom_hooks = [dict(type='WarmupEMAHook', momentum=4e-5, warmup_epochs=20)]
