"""Fine-tuning of a narrow ResNet-10 at output stride 8, with two labelled digits of each class.

Run: python tools/train.py configs/quickstart/finetune_resnet10t_1xb20-cos-300e_digits-16px.py \
         --pretrained CKPT      (without it: the same from scratch)
"""

_base_ = ['_base_/runtime.py', '_base_/digits_few_labels.py']

model = dict(
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet10t',
        channels=(16, 32, 64, 128),
        output_stride=8,
        zero_init_last=False,  # else the branches would hardly open in so few steps
        num_classes=10,
    ),
)
