"""Fine-tuning of ResNet-50 on images in one folder per class, at 224 pixels.

DIR holds ``train`` and ``val``, each with the same class folders. The run is refused at the start
if the number of class folders differs from ``num_classes``. Without ``--pretrained`` it trains from
scratch, the baseline to compare with.
Run: python tools/train.py \
         configs/own_data/finetune_resnet50_1xb64-cos-100e_class-folders-224px.py \
         --data-root DIR --pretrained CKPT --cfg-options model.backbone.num_classes=CLASSES
"""

_base_ = [
    '../openmixup/finetune/_base_/default_runtime.py',
    '_base_/class_folders.py',
    '_base_/resnet50_classifier.py',
    '_base_/finetune_cos_100e.py',
]
