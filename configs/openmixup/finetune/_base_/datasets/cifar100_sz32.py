"""CIFAR-100: random crops of images padded by 4 pixels by reflection, and flips."""

train_dataloader = dict(
    batch_size=100,  # per GPU
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='CIFAR', root='data/cifar100', name='cifar100', download=True),
        pipeline=[
            dict(
                type='TorchvisionTransform',
                name='RandomCrop',
                size=32,
                padding=4,
                padding_mode='reflect',
            ),
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
        source=dict(
            type='CIFAR', root='data/cifar100', name='cifar100', train=False, download=True
        ),
        pipeline=[],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
