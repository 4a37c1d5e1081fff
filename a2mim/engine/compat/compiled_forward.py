"""``torch.compile`` of what repeats: the forward pass of the model.

mmengine 0.10 compiles the whole training step. Its iteration counter and the learning rate are
numbers that the compiled code depends on, so that every step is compiled anew, until torch gives
up and runs uncompiled. This file can go once mmengine compiles the model.
"""

from mmengine.model import is_model_wrapper
from torch import nn


def compile_forward(model: nn.Module, options: bool | dict | None) -> None:
    """Compile ``model`` in place; the names in its ``state_dict`` stay as they are.

    Args:
        model: The model, possibly in DDP.
        options: Entry ``compile`` of a config: a switch, or arguments of ``torch.compile``.
    """
    if options is None or options is False:
        return
    inner = model.module if is_model_wrapper(model) else model
    inner.compile(**({} if options is True else options))
