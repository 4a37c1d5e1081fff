"""SparK pre-training of the small ConvNeXt with 32 to 256 channels on digits.

Network, images, crops, batches and steps are those of A2MIM's config. A block of SparK is one
feature of the last stage, 8 pixels: two of the four blocks are masked.
Run: python tools/train.py configs/study/digits/spark_convnext-small_1xb64-cos-20e_digits-16px.py
"""

_base_ = ['../_base_/runtime.py', '_base_/mim.py']

train_dataloader = dict(dataset=dict(mask=dict(block_size=8)))
model = dict(
    type='SparK',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[77.8, 77.8, 77.8], std=[95.9, 95.9, 95.9]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='convnext_atto',
        depths=(1, 1, 2, 1),
        dims=(32, 64, 128, 256),
        patch_size=1,
    ),
    neck=dict(type='UNetDecoder', width=128),
    head=dict(type='MIMHead', spatial=dict(type='MSELoss')),
)
train_cfg = dict(by_epoch=True, max_epochs=20)
