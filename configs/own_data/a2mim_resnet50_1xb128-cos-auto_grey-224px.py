"""A2MIM pre-training of ResNet-50 on greyscale, or colour images read as greyscale, at 224 pixels.

One channel from file to reconstruction. Mean and std are those of ImageNet's colours, the mean with
the weights of the greyscale conversion; measure your own with
``tools/prepare_data/compute_stats.py DIR --channels 1``.
Run: python tools/train.py \
         configs/own_data/a2mim_resnet50_1xb128-cos-auto_grey-224px.py \
         --data-root DIR
"""

_base_ = [
    '_base_/folder_mim.py',
    '_base_/resnet50_mim.py',
    '_base_/mim_cos_auto.py',
]

train_dataloader = dict(dataset=dict(source=dict(channels=1)))
model = dict(
    data_preprocessor=dict(mean=[117.0], std=[57.6]),
    backbone=dict(in_chans=1),
)
