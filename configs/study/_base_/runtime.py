"""Logging and checkpoints of the runs of a study, of which there are hundreds."""

_base_ = ['../../_base_/every_run.py']

default_scope = 'a2mim'

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=10, save_last=True, max_keep_ckpts=1),
)
log_processor = dict(type='SpeedLogProcessor', window_size=20)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
randomness = dict(seed=0)
