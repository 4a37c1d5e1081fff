"""Images without labels, all below one folder: 30 of 49 patches of 32 pixels are masked."""

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='ImageFolder', root='data/own/train', channels=3),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.67, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=224, block_size=32, ratio=0.6),
    ),
)
# What a run without labels can tell of its features.
custom_hooks = [dict(type='UnlabelledProbeHook', interval=None)]
