"""The pre-training that ``attacks.py`` attacks: that of ``killed_run.py``, in 14 iterations.

Run: python tools/reliability/attacks.py
"""

_base_ = 'killed_run.py'

train_dataloader = dict(num_workers=0)
train_cfg = dict(by_epoch=True, max_epochs=2)
# Nothing but an attack saves before the end.
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=2),
    checkpoint=dict(_delete_=True, type='CheckpointHook', interval=2, max_keep_ckpts=1),
)
