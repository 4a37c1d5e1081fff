"""A2MIM pre-training of ResNet-18 on small images, at 64 pixels.

At stride 32 an image of 64 pixels would end in 2×2 features. ``output_stride=8`` keeps 8×8 by
dilation, which costs time but keeps the weights compatible with every other ResNet-18. A mask patch
is as large as a feature, 8 pixels: 39 of 64 are masked. For 32 pixels use patches of 4 pixels and
``mask_after=layer1``, where the stride is 4. For 96 pixels set ``size`` and ``image_size`` to 96.
Run: python tools/train.py \
         configs/own_data/a2mim_resnet18_1xb128-cos-auto_folder-64px.py \
         --data-root DIR
"""

_base_ = [
    '_base_/folder_mim.py',
    '_base_/resnet50_mim.py',
    '_base_/mim_cos_auto.py',
]

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=64, scale=(0.67, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(image_size=64, block_size=8),
    )
)
model = dict(backbone=dict(model_name='resnet18', output_stride=8))
