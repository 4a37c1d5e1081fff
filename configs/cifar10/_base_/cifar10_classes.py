"""CIFAR-10 with labels: random crops of images padded by 4 pixels, and flips."""

train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='CIFAR', root='data/cifar10', name='cifar10', download=True),
        pipeline=[
            dict(type='TorchvisionTransform', name='RandomCrop', size=32, padding=4),
            dict(type='RandomFlip'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='CIFAR', root='data/cifar10', name='cifar10', train=False, download=True),
        pipeline=[],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
