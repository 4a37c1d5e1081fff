"""The runner of detectors and segmentors: weights before data, and batch norm on a CPU."""

import torch
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import BaseLoop, Runner
from torch import nn

from a2mim.engine.checkpointing import CheckpointHook
from a2mim.engine.mmengine_fixes import filter_log
from a2mim.transfer.data_folders import check_data_folders


class TransferRunner(Runner):
    """mmengine's Runner, with four differences.

    It
    - takes the weights of the trunk, and looks for the folders of the data, before it reads any,
      so that a wrong file is refused within seconds;
    - trains batch norm per process on a CPU: torch synchronises it between GPUs only;
    - completes a checkpoint that was begun, whatever ends the run;
    - keeps out of the log what no person reads.
    """

    def build_logger(self, *args: object, **kwargs: object) -> MMLogger:
        """Build the logger as mmengine does, without what no person reads."""
        logger = super().build_logger(*args, **kwargs)
        filter_log(logger)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes."""
        if not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Initialise the weights, then look for the data, then read them.

        Raises:
            FileNotFoundError: If a folder of the data is missing.
        """
        if not isinstance(loop, BaseLoop):
            super()._init_model_weights()
            check_data_folders(self.cfg, ('train', 'val'))
        return super().build_train_loop(loop)

    def train(self) -> nn.Module:
        """Train as mmengine does, and see to a checkpoint that is being written."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                if isinstance(hook, CheckpointHook):
                    hook.finish(self)

    def _init_model_weights(self) -> None:
        """Done by then."""
