"""One folder of images per class, below ``train`` and ``val``, at 224 pixels."""

train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='data/own/train', with_labels=True, channels=3),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.25, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='data/own/val', with_labels=True, channels=3),
        pipeline=[dict(type='Resize', size=256), dict(type='CenterCrop', size=224)],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
