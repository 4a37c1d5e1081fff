"""SimMIM pre-training of Swin-B at 192 pixels on CIFAR-100, 1000 epochs, in mixed precision.

Deviation: the published config does not load. This config is the one for CIFAR-10 with the data of
CIFAR-100.
Deviation: the published config for CIFAR-10 ends after 100 epochs. This config trains for 1000, as
its name says.
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/simmim/cifar100/swin_base_sz192_8xb64_accu4_cos_ep1000.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/cifar100_sz192_rrc067.py',
    '../../_base_/models/simmim/swin_base.py',
    '../../_base_/schedules/adamw_cos_swin.py',
]

model = dict(
    data_preprocessor=dict(mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255])
)
train_cfg = dict(max_epochs=1000)
# Published in float16; bfloat16 is used where the GPU supports it.
optim_wrapper = dict(type='AmpOptimWrapper', accumulative_counts=4)
default_hooks = dict(reconstruction=dict(interval=100))
