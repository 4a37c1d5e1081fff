"""The fine-tuning that ``attacks.py`` attacks: 14 iterations, an average and two validations.

Run: python tools/reliability/attacks.py
"""

_base_ = 'attacked_run.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ImageDataset',
        source=dict(type='PhotoPatches', split='train', labels_per_class=2),
        pipeline=[dict(type='RandomResizedCrop', size=32), dict(type='RandomFlip')],
    )
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='PhotoPatches', split='train', labels_per_class=2),
        pipeline=[dict(type='Resize', size=32), dict(type='CenterCrop', size=32)],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
model = dict(
    _delete_=True,
    type='ImageClassifier',
    backbone=dict(
        type='TimmBackbone', model_name='test_convnext', num_classes=14, drop_path_rate=0.2
    ),
    loss=dict(type='CrossEntropyLoss'),
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
)
