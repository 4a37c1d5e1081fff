"""Fine-tuning of ResNet-50 on images with several labels each, from list files, at 224 pixels.

A line of the lists is ``path,1,4`` for an image of the classes 1 and 4 and ``path,`` for one of
none; paths are relative to DIR. Every class is a decision of its own (binary cross-entropy), and
validation reports the mean average precision.
Run: python tools/train.py \
         configs/own_data/finetune_resnet50_1xb64-cos-100e_multi-label-224px.py \
         --data-root DIR --pretrained CKPT --cfg-options model.backbone.num_classes=CLASSES \
         train_dataloader.dataset.source.list_file=DIR/train.csv \
         val_dataloader.dataset.source.list_file=DIR/val.csv
"""

_base_ = [
    '../openmixup/finetune/_base_/default_runtime.py',
    '_base_/class_folders.py',
    '_base_/resnet50_classifier.py',
    '_base_/finetune_cos_100e.py',
]

train_dataloader = dict(
    dataset=dict(
        source=dict(
            _delete_=True,
            type='ImageList',
            list_file='data/own/train.csv',
            root='data/own',
            channels=3,
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        source=dict(
            _delete_=True,
            type='ImageList',
            list_file='data/own/val.csv',
            root='data/own',
            channels=3,
        )
    )
)
model = dict(loss=dict(_delete_=True, type='BinaryCrossEntropy', smoothing=0.0))
val_evaluator = dict(_delete_=True, type='MeanAveragePrecision')
