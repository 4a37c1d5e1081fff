"""ImageNet-1K without labels at 192 pixels, crops of at least 67 % of the area.

22 of the 36 patches of 32 pixels are masked. ``--data-root DIR`` names a folder of images, which is
searched recursively.
"""

train_dataloader = dict(
    batch_size=128,  # per GPU
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='ImageFolder', root='data/ImageNet/train'),
        pipeline=[
            dict(type='RandomResizedCrop', size=192, scale=(0.67, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=192, block_size=32, ratio=0.6),
    ),
)
