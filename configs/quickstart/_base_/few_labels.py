"""Five labelled patches of each of 14 photographs, and 224 others to validate and to test on.

The 70 training patches come from regions that validation and test do not use.
"""

train_dataloader = dict(
    batch_size=35,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='PhotoPatches', split='train', labels_per_class=5),
        pipeline=[
            dict(type='RandomResizedCrop', size=64, scale=(0.3, 1.0)),
            dict(type='RandomFlip'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=56,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='PhotoPatches', split='val', stride=16),
        pipeline=[dict(type='Resize', size=64, interpolation='bilinear')],
    ),
)
test_dataloader = dict(
    batch_size=56,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='PhotoPatches', split='test', stride=16),
        pipeline=[dict(type='Resize', size=64, interpolation='bilinear')],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
test_cfg = dict()

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='TimmBackbone', model_name='resnet18', num_classes=14),
    loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
)
