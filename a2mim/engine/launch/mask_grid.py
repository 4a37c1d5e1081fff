"""The mask of the data and the trunk that has to hide it, compared before training."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.distributed.fsdp import FSDPModule


def check_mask_grid(runner: Runner) -> None:
    """Refuse mask blocks that do not fit the features which they hide.

    Models without a backbone that checks, and data without a mask, pass. So do sharded models,
    whose parts cannot run by themselves: the first batch is checked on its way through them.

    Raises:
        ValueError: If so; it says which block sizes fit.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    check = getattr(getattr(model, 'backbone', None), 'check_mask_grid', None)
    mask = getattr(runner.train_loop.dataloader.dataset, 'mask', None)
    if isinstance(model, FSDPModule):
        return
    if check is not None and mask is not None:
        check(mask.image_size, mask.grid)
