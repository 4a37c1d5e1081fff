"""One forward pass that reads shapes and changes nothing.

The pass runs on the meta device, where tensors have a shape and no numbers: no time, no memory,
no BatchNorm statistics. A model that needs real numbers on its way gets them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

Shape = tuple[int, ...] | None


def trace_shapes(
    model: nn.Module, image_shape: tuple[int, int, int], modules: Iterable[nn.Module]
) -> tuple[Shape, dict[nn.Module, list[Shape]]]:
    """Shape that ``model`` returns for one blank image, and those that ``modules`` return in it.

    Args:
        model: Any model that takes a batch of images.
        image_shape: (C, H, W) of the image.
        modules: Parts of the model; one that runs twice has two shapes, one that does not, none.

    Returns:
        Shapes with B = 1 first; None stands for anything but a tensor.

    Raises:
        Exception: Whatever the model raises where it cannot take such an image.
    """
    shapes: dict[nn.Module, list[Shape]] = {module: [] for module in modules}

    def record(module: nn.Module, _inputs: tuple, output: object) -> None:
        shapes[module].append(_shape(output))

    handles = [module.register_forward_hook(record) for module in shapes]
    parameter = next(model.parameters())
    blank = torch.zeros(1, *image_shape, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _evaluating(model):
            try:
                output = _run_on_meta(model, blank)
            # A model without meta support raises an error of its own choice.
            except Exception:
                for records in shapes.values():
                    records.clear()
                output = model(blank)
            return _shape(output), shapes
    finally:
        for handle in handles:
            handle.remove()


def _run_on_meta(model: nn.Module, blank: Tensor) -> object:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors = {name: tensor.to('meta') for name, tensor in tensors.items()}
    return functional_call(model, tensors, (blank.to('meta'),))


def _shape(output: object) -> Shape:
    return tuple(output.shape) if isinstance(output, Tensor) else None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        # LeViT and others drop what they cached for evaluation when they go to training mode.
        model.train()
        for module, mode in modes.items():
            module.training = mode
