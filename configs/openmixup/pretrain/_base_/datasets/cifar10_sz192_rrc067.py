"""CIFAR-10 without labels, enlarged to 192 pixels by the crop of at least 67 % of the area.

22 of the 36 patches of 32 pixels are masked. The data are downloaded if missing.
"""

train_dataloader = dict(
    batch_size=64,  # per GPU
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='CIFAR', root='data/cifar10', name='cifar10', download=True),
        pipeline=[
            dict(type='RandomResizedCrop', size=192, scale=(0.67, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=192, block_size=32, ratio=0.6),
    ),
)
