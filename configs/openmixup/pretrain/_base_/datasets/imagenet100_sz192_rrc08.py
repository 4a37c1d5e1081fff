"""ImageNet-100 without labels at 192 pixels, crops of at least 80 % of the area.

A list file names the 126,689 images, relative to the training folder of ImageNet-1K. 22 of the 36
patches of 32 pixels are masked.
"""

train_dataloader = dict(
    batch_size=256,  # per GPU
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(
            type='ImageList',
            list_file='data/meta/ImageNet100/train.txt',
            root='data/ImageNet/train',
        ),
        pipeline=[
            dict(type='RandomResizedCrop', size=192, scale=(0.8, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=192, block_size=32, ratio=0.6),
    ),
)
