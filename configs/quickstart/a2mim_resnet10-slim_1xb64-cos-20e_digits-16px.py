"""A2MIM pre-training of a ResNet-10 with 16 to 128 channels on digits: seconds.

Run: python tools/train.py configs/quickstart/a2mim_resnet10-slim_1xb64-cos-20e_digits-16px.py
"""

_base_ = ['../study/digits/a2mim_resnet10-narrow_1xb64-cos-20e_digits-16px.py']

model = dict(backbone=dict(channels=(16, 32, 64, 128)))
