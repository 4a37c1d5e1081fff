"""Fine-tuning of ConvNeXt-S on ImageNet-1K with the training recipe of SparK, 300 epochs.

The published read-me mislabels this training recipe as RSB A2.

Deviation: none in training. The published name says 2048 images per step, but the published config,
like this one, accumulates two iterations to 4096, the batch size of its learning rate.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/convnext_s.py',
    '../_base_/schedules/adamw_spark.py',
]

train_dataloader = dict(batch_size=256, num_workers=10)
