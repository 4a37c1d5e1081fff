"""ImageNet-100 at 224 pixels with the timm augmentations used to fine-tune SimMIM and Swin.

Crop, flip, RandAugment and, once normalised, random erasing.

The published lists name 126,689 images for training and 5,000 for testing, by paths below ``train``
and ``val`` of ImageNet; ``--data-root DIR`` names the folder that holds both.
"""

train_dataloader = dict(
    batch_size=128,  # per GPU
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(
            type='ImageList',
            list_file='data/meta/ImageNet100/train_labeled.txt',
            root='data/ImageNet/train',
        ),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, interpolation='bicubic'),
            dict(type='RandomFlip'),
            dict(type='TimmAugment', policy='rand-m9-mstd0.5-inc1'),
        ],
        erase=dict(type='RandomErasing', image_size=224, p=0.25),
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(
            type='ImageList',
            list_file='data/meta/ImageNet100/val_labeled.txt',
            root='data/ImageNet/val',
        ),
        pipeline=[
            dict(type='Resize', size=256, interpolation='bicubic'),
            dict(type='CenterCrop', size=224),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
