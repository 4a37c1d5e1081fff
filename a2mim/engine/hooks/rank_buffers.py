"""All processes validate with the running statistics that a checkpoint would have."""

from mmengine.dist import broadcast, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.registry import HOOKS


@HOOKS.register_module()
class RankBuffersHook(Hook):
    """Validate every share of the data with the buffers of the first process.

    Without ``sync_bn`` each process has batch statistics of its own, and a checkpoint has those of
    the first one. Training does not read them. Validation does: with those of a process's own, an
    accuracy after a resume would not be that of the run that was never stopped, nor that of the
    checkpoint. The runner of the tools registers the hook.
    """

    # After the averaged weights have taken the place of the trained ones, with their buffers.
    priority = 'LOW'

    def before_val_epoch(self, runner: Runner) -> None:
        """Take the buffers of the first process."""
        if is_distributed():
            for buffer in runner.model.buffers():
                broadcast(buffer)
