"""ImageNet-1K as in RSB A3: trained at 160 pixels, tested at 224.

Class folders below ``train`` and ``val``; ``--data-root DIR`` names the folder that holds both.
"""

train_dataloader = dict(
    batch_size=512,  # per GPU
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='data/ImageNet/train', with_labels=True),
        pipeline=[
            dict(type='RandomResizedCrop', size=160, interpolation='bicubic'),
            dict(type='RandomFlip'),
            dict(type='TimmAugment', policy='rand-m6-mstd0.5-inc1'),
        ],
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
            dict(type='Resize', size=236, interpolation='bicubic'),
            dict(type='CenterCrop', size=224),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
