"""Values that wait for their log line are not lost to a checkpoint."""

from types import SimpleNamespace

import torch
from mmengine.logging import MessageHub

from a2mim.engine.mmengine_fixes import RuntimeInfoHook


def test_what_is_queued_reaches_the_curves_once_and_in_order():
    hub = MessageHub.get_instance('deferred logging')
    runner = SimpleNamespace(message_hub=hub, hooks=[], train_dataloader=range(100))
    runner.optim_wrapper = SimpleNamespace()
    hook = RuntimeInfoHook()
    hook._pending, hook._interval = [], 10
    for batch in range(3):
        hook.after_train_iter(runner, batch, None, dict(loss=torch.tensor(float(batch))))
    assert 'train/loss' not in hub.log_scalars
    hook.flush(runner)
    hook.flush(runner)
    assert hub.get_scalar('train/loss').data[0].tolist() == [0, 1, 2]
