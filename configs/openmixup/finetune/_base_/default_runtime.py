"""Logging and checkpoints of a fine-tuning run."""

_base_ = ['../../../_base_/every_run.py']

default_scope = 'a2mim'

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=1),
    loss_curve=dict(type='LossCurveHook'),
)
# Equal to the logger's interval, so that only log lines synchronise with the GPU.
log_processor = dict(type='SpeedLogProcessor', window_size=50)
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
