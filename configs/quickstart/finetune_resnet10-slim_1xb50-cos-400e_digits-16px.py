"""Fine-tuning of a ResNet-10 with 16 to 128 channels, with 5 labels per digit.

Run: python tools/train.py configs/quickstart/finetune_resnet10-slim_1xb50-cos-400e_digits-16px.py \
         --pretrained CKPT      (without it: the same from scratch)
"""

_base_ = ['../study/digits/finetune_resnet10-narrow_1xb50-cos-400e_digits-16px.py']

model = dict(backbone=dict(channels=(16, 32, 64, 128)))
