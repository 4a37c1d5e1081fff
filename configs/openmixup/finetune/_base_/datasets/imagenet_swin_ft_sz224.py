"""ImageNet-1K at 224 pixels with the timm augmentations used to fine-tune SimMIM and Swin.

Crop, flip, RandAugment and, once normalised, random erasing. Class folders below ``train`` and
``val``; ``--data-root DIR`` names the folder that holds both.
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
        source=dict(type='ImageFolder', root='data/ImageNet/train', with_labels=True),
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
        source=dict(type='ImageFolder', root='data/ImageNet/val', with_labels=True),
        pipeline=[
            dict(type='Resize', size=256, interpolation='bicubic'),
            dict(type='CenterCrop', size=224),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
