"""Fine-tuning of ResNet-50 with 10 % of the labels of ImageNet-1K, 20 epochs.

The learning rate is 0.1, and 100 times that for the head: one of nine settings to choose from.

Run: bash tools/dist_train_ft_4gpu.sh \
  configs/openmixup/finetune/imagenet/imagenet_per_10/r50_sz224_4xb64_head100_lr0_1_step_ep20.py \
  CKPT
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_10_percent_sz224.py',
    '../../_base_/models/r50.py',
    '../../_base_/schedules/sgd_few_labels.py',
]

optim_wrapper = dict(
    optimizer=dict(lr=0.1, weight_decay=1e-4),
    paramwise_cfg=dict(rules={'[.]fc[.]': dict(lr_mult=100)}),
)
sync_bn = 'torch'
