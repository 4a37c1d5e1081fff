"""10 % of the labels of ImageNet-1K at 224 pixels, cropped and flipped only.

The published list, which is that of SimCLR, names images by paths below ``train``. Testing uses all
of ``val``, in class folders. ``--data-root DIR`` names the folder that holds both.
"""

train_dataloader = dict(
    batch_size=64,  # per GPU
    num_workers=6,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(
            type='ImageList',
            list_file='data/meta/ImageNet/train_labeled_10percent.txt',
            root='data/ImageNet/train',
        ),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, interpolation='bicubic'),
            dict(type='RandomFlip'),
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
            dict(type='Resize', size=256, interpolation='bicubic'),
            dict(type='CenterCrop', size=224),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
