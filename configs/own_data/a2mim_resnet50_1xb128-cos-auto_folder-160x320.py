"""A2MIM pre-training of ResNet-50 on images twice as wide as high, 160×320 pixels.

Sizes are (height, width). 30 of the 5×10 patches of 32 pixels are masked. Crops are 1.5 to 2.67
times as wide as high, three quarters to four thirds of the aspect ratio of the result. A backbone
with position embeddings needs the image size: ``model.backbone.img_size=160,320``.
Run: python tools/train.py \
         configs/own_data/a2mim_resnet50_1xb128-cos-auto_folder-160x320.py \
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
            dict(type='RandomResizedCrop', size=(160, 320), scale=(0.67, 1.0), ratio=(1.5, 2.667)),
            dict(type='RandomFlip'),
        ],
        mask=dict(image_size=(160, 320)),
    )
)
