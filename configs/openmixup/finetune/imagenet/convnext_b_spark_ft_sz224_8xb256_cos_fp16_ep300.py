"""Fine-tuning of ConvNeXt-B on ImageNet-1K by the recipe of SparK, 300 epochs.

The published read-me calls it RSB A2, which it is not.

Deviation: none in what runs, but the published name tells 2048 images per step where the published
file accumulates two iterations to 4096, for which its learning rate is meant. So does this one.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/convnext_b.py',
    '../_base_/schedules/adamw_spark.py',
]

train_dataloader = dict(batch_size=256, num_workers=10)
