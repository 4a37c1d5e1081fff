"""SimMIM pre-training of a narrow ResNet-10 at output stride 8, on digits: seconds on a CPU.

Run: python tools/train.py configs/quickstart/simmim_resnet10t_1xb128-cos-20e_digits-16px.py
"""

_base_ = ['_base_/runtime.py', '_base_/digits_mim.py']

model = dict(
    type='SimMIM',
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet10t',
        channels=(16, 32, 64, 128),
        output_stride=8,
        zero_init_last=False,  # else the branches would hardly open in so few steps
        mask_after='maxpool',
        mask_token=dict(mode='replace'),
    ),
    head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
)
