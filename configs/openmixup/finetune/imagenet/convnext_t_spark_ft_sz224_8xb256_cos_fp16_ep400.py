"""Fine-tuning of ConvNeXt-T on ImageNet-1K with the training recipe of SparK, 400 epochs.

The learning rate is a tenth of that of the larger models and decays layer by layer; in stage 2,
three consecutive blocks count as one layer.

Deviation: none in training. The published name says 2048 images per step, but the published config,
like this one, accumulates two iterations to 4096, the batch size of its learning rate.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/convnext_t.py',
    '../_base_/schedules/adamw_spark.py',
]

train_dataloader = dict(batch_size=256, num_workers=10)
optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=0.01),
    paramwise_cfg=dict(
        layer_decay=0.7,
        layers=[
            r'stem',
            r'stages\.0',
            r'stages\.1',
            r'stages\.2\.(?:downsample|blocks\.[0-2]\.)',
            r'stages\.2\.blocks\.[3-5]\.',
            r'stages\.2\.blocks\.[6-8]\.',
            r'stages\.3',
        ],
    ),
)
train_cfg = dict(max_epochs=400)
