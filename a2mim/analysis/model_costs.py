"""What a model costs: parameters, and operations of one forward pass.

Published "FLOPs" of image models are multiply-accumulates (MACs), each of which is two operations.
Convolutions, linear layers and attention are counted; norms, activations and FFTs are not.
"""

from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from a2mim.analysis.networks import similar_models
from a2mim.masking import block_grid
from a2mim.weights.load_model import SUFFIXES, load_model


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: of the timm model without its classifier, and of everything."""

    backbone: int
    backbone_trainable: int
    total: int
    total_trainable: int


def open_model(name: str) -> nn.Module:
    """A config, a file of weights or a timm name as a model with random weights.

    Raises:
        FileNotFoundError: If a path names no file.
        ValueError: If it is no timm model either.
    """
    if Path(name).suffix in (*SUFFIXES, '.py'):
        return load_model(name, pretrained=False)
    if not timm.is_model(name):
        hint = similar_models(name)
        raise ValueError(f'{name}: neither a config (.py) nor a timm model; {hint}')
    with torch.device('meta'):
        return timm.create_model(name).eval()


def count_parameters(model: nn.Module) -> Parameters:
    """Count those of a timm model, or of any of ours around one."""
    backbone = getattr(model, 'backbone', model)
    trunk = getattr(backbone, 'model', backbone)
    head = trunk.get_classifier() if trunk.num_classes else None
    of_head = {id(p) for p in head.parameters()} if isinstance(head, nn.Module) else set()
    inside = [p for p in backbone.parameters() if id(p) not in of_head]
    everything = list(model.parameters())
    return Parameters(*_count(inside), *_count(everything))


def count_macs(model: nn.Module, size: tuple[int, int] | None = None) -> int:
    """MACs of one image of ``size`` = (H, W) through ``model``; None: the size of its training.

    A model for pre-training is given a mask, and its decoder counts. The model is moved to the
    meta device, where nothing is computed and attention is a product of matrices like others (the
    fused kernel of the CPU would not be counted).

    Raises:
        ValueError: If the model does not take images of this size.
    """
    ours = getattr(model, 'input_spec', None)
    channels, *trained = (3,) if ours else model.default_cfg['input_size']
    size = size or (ours.image_size if ours else tuple(trained))
    if ours:
        channels = len(model.data_preprocessor.mean)
    model = model.to('meta').eval()
    image = torch.zeros(1, channels, *size, device='meta')
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            _forward(model, image)
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'{type(model).__name__} takes no images of {size[0]}×{size[1]} pixels ({reason}); '
            'leave --shape out for the size that it was made for'
        ) from error
    return counter.get_total_flops() // 2


def _forward(model: nn.Module, image: torch.Tensor) -> None:
    if hasattr(model, 'neck'):
        grid = block_grid(tuple(image.shape[-2:]), model.input_spec.block_size)
        model.predict(image, torch.zeros(1, *grid, device='meta'))
    elif hasattr(model, 'logits'):
        model.logits(image)
    else:
        model(image)


def _count(parameters: list[nn.Parameter]) -> tuple[int, int]:
    numbers = [(p.numel(), p.numel() * p.requires_grad) for p in parameters]
    return sum(n for n, _ in numbers), sum(n for _, n in numbers)
