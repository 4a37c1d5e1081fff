"""ImageNet-1K without labels at 224 pixels, crops of at least 67 % of the area.

29 of the 49 patches of 32 pixels are masked: 60 %, rounded so that 20 are visible, as published.
``--data-root DIR`` names a folder of images, which is searched recursively.
"""

train_dataloader = dict(
    batch_size=512,  # per GPU
    num_workers=12,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='ImageFolder', root='data/ImageNet/train'),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.67, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=224, block_size=32, ratio=0.59),
    ),
)
