"""CIFAR-10 without labels: 39 of the 64 patches of 4 pixels are masked.

``download=True`` downloads the data. Class folders of images can be read instead, by
``source=dict(type='ImageFolder', root='data/cifar10/train')``.
"""

train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='CIFAR', root='data/cifar10', name='cifar10', download=True),
        pipeline=[
            dict(type='RandomResizedCrop', size=32, scale=(0.67, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=32, block_size=4, ratio=0.6),
    ),
)
