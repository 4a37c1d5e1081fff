"""Cost of a model: parameters, and operations of one forward pass.

Published "FLOPs" of image models are multiply-accumulates (MACs), each of which is two operations.
Convolutions, linear layers and attention are counted; norms, activations and FFTs are not.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from a2mim.analysis.networks import similar_models
from a2mim.interfaces import Algorithm, TimmNetwork
from a2mim.masking import block_grid
from a2mim.models.classifier import ImageClassifier
from a2mim.weights.load_model import SUFFIXES, load_model


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: of the timm model without its classifier, and in total."""

    backbone: int
    backbone_trainable: int
    total: int
    total_trainable: int


def open_model(name: str) -> nn.Module:
    """Build the model of a config, a checkpoint or a timm name, with random weights.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If timm has no such model.
    """
    if Path(name).suffix in (*SUFFIXES, '.py'):
        return load_model(name, pretrained=False)
    if not timm.is_model(name):
        hint = similar_models(name)
        raise ValueError(f'{name}: neither a config (.py) nor a timm model; {hint}')
    with torch.device('meta'):
        return timm.create_model(name).eval()


def count_parameters(model: nn.Module) -> Parameters:
    """Count the parameters of a timm model, or of one of ours."""
    backbone = getattr(model, 'backbone', model)
    network = cast(TimmNetwork, getattr(backbone, 'model', backbone))
    head = network.get_classifier() if network.num_classes else None
    of_head = {id(p) for p in head.parameters()} if isinstance(head, nn.Module) else set()
    inside = [p for p in backbone.parameters() if id(p) not in of_head]
    return Parameters(*_count(inside), *_count(list(model.parameters())))


def count_macs(model: nn.Module, size: tuple[int, int] | None = None) -> int:
    """MACs of one image of ``size`` = (H, W), by default the model's training size.

    A pre-training model gets a mask, and its decoder counts. The model is moved to the meta device,
    where nothing is computed and attention is a matrix product (the fused kernel of the CPU is not
    counted).

    Raises:
        ValueError: If the model does not take images of this size.
    """
    if hasattr(model, 'input_spec'):
        ours = cast(Algorithm, model)
        channels, trained = len(ours.data_preprocessor.mean), ours.input_spec.image_size
    else:
        channels, *trained = cast(TimmNetwork, model).default_cfg['input_size']
    height, width = size or trained
    model = model.to('meta').eval()
    image = torch.zeros(1, channels, height, width, device='meta')
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            _forward(model, image)
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'{type(model).__name__} takes no images of {height}×{width} pixels ({reason}); leave '
            '--shape out for its own size'
        ) from error
    return counter.get_total_flops() // 2


def _forward(model: nn.Module, image: torch.Tensor) -> None:
    if hasattr(model, 'neck'):
        ours = cast(Algorithm, model)
        grid = block_grid((image.shape[-2], image.shape[-1]), ours.input_spec.block_size)
        mask = torch.zeros(1, *grid, device='meta')
        ours(image, mask, mode='predict')
    elif isinstance(model, ImageClassifier):
        model.logits(image)
    else:
        model(image)


def _count(parameters: list[nn.Parameter]) -> tuple[int, int]:
    numbers = [(p.numel(), p.numel() * p.requires_grad) for p in parameters]
    return sum(n for n, _ in numbers), sum(n for _, n in numbers)
