"""STL-10 at 96 pixels, cropped and flipped only.

5,000 labelled images for training and 8,000 for testing, which are not cropped: class folders below
``train`` and ``test``; ``--data-root DIR`` names the folder that holds both.
"""

train_dataloader = dict(
    batch_size=64,  # per GPU
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='data/stl10/train', with_labels=True),
        pipeline=[
            dict(type='RandomResizedCrop', size=96, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='data/stl10/test', with_labels=True),
        pipeline=[],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
