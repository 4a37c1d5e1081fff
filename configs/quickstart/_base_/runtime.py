"""Logging, checkpoints and loss curve of a run of a few minutes on two CPU cores."""

_base_ = ['../../_base_/every_run.py']

default_scope = 'a2mim'

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20),
    checkpoint=dict(type='CheckpointHook', interval=-1, save_last=True, max_keep_ckpts=1),
    loss_curve=dict(type='LossCurveHook'),
)
log_processor = dict(type='SpeedLogProcessor', window_size=20)
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
randomness = dict(seed=0)
