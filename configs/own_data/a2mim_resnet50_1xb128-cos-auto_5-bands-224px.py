"""A2MIM pre-training of ResNet-50 on images of five bands, at 224 pixels.

TIFF files or ``.npy`` arrays, (H, W, 5) or (5, H, W), of 8 bits; of more with a ``scale``. Mean and
std are placeholders: measure your own with
``tools/prepare_data/compute_stats.py DIR --channels 5``. For N bands change ``channels``,
``in_chans`` and the lengths of mean and std; the decoder follows them.
Run: python tools/train.py \
         configs/own_data/a2mim_resnet50_1xb128-cos-auto_5-bands-224px.py \
         --data-root DIR
"""

_base_ = [
    '_base_/folder_mim.py',
    '_base_/resnet50_mim.py',
    '_base_/mim_cos_auto.py',
]

train_dataloader = dict(dataset=dict(source=dict(channels=5)))
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5, 127.5, 127.5], std=[64, 64, 64, 64, 64]),
    backbone=dict(in_chans=5),
)
