"""200 labelled images of each class of CIFAR-10, as class folders; tested on all of ``val``.

``--data-root DIR`` names the folder that holds ``train`` and ``val``.
"""

train_dataloader = dict(
    batch_size=100,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(
            type='ImageFolder', root='data/cifar10/train', with_labels=True, labels_per_class=200
        ),
        pipeline=[
            dict(type='TorchvisionTransform', name='RandomCrop', size=32, padding=4),
            dict(type='RandomFlip'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='ImageFolder', root='data/cifar10/val', with_labels=True),
        pipeline=[],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[125.3, 123.0, 113.9], std=[51.6, 50.8, 51.3]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet10t',
        output_stride=8,
        zero_init_last=False,  # for a start from scratch: 600 steps do not open its branches
        num_classes=10,
    ),
    loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
)
