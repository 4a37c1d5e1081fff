"""Fine-tuning of ResNet-50 with ten labelled images of each class, at 224 pixels.

DIR is that of the fine-tuning with all labels: ten images per class are used, drawn by the seed of
the run. ``labels_per_class`` sets another number. ``zero_init_last=False`` is for a fair start from
scratch, which has too few steps to open residual branches that start at zero; leave it out for a
backbone that is no ResNet.
Run: python tools/train.py \
         configs/own_data/finetune_resnet50_1xb32-cos-100e_10-labels-224px.py \
         --data-root DIR --pretrained CKPT --cfg-options model.backbone.num_classes=CLASSES
"""

_base_ = [
    '../openmixup/finetune/_base_/default_runtime.py',
    '_base_/class_folders.py',
    '_base_/resnet50_classifier.py',
    '_base_/finetune_cos_100e.py',
]

# Ten images of a few classes are fewer than a batch.
train_dataloader = dict(
    batch_size=32, drop_last=False, dataset=dict(source=dict(labels_per_class=10))
)
model = dict(backbone=dict(zero_init_last=False))
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
auto_scale_lr = dict(base_batch_size=32)
