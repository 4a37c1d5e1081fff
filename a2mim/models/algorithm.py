"""What the algorithms of masked image modelling share.

Axes: B batch, C channels, (H, W) pixels or features, (h, w) mask blocks.
"""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.registry import MODELS


class MaskedModel(BaseModel):
    """Base class of an algorithm: a backbone, and what becomes of its features under a mask.

    A subclass sets ``backbone``, a ``TimmBackbone``, and defines ``loss(image, mask, num_masked)``;
    ``predict(image, mask)`` gives the images that a picture shows.

    Args:
        data_preprocessor: The ``ImagePreprocessor``, built.
    """

    data_preprocessor: ImagePreprocessor
    backbone: Any
    loss: Callable[..., dict[str, Tensor]]
    predict: Callable[..., dict[str, Tensor]]

    def __init__(self, data_preprocessor: ImagePreprocessor) -> None:
        super().__init__(data_preprocessor)

    def forward(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        label: Tensor | None = None,
        mode: str = 'tensor',
        num_masked: int | None = None,
    ) -> dict[str, Tensor] | Tensor:
        """Dispatch by mmengine's ``mode``; the ``label`` of a batch is not used.

        Args:
            image: (B, C, H, W), normalised.
            mask: (B, h, w), 1 where masked; needed but for ``'tensor'``.
            label: Not used.
            mode: ``'tensor'`` for the features (B, C', H', W') of the unmasked image, ``'loss'``
                for the losses by name, ``'predict'`` for pictures.
            num_masked: The masked blocks of every image, which saves some losses a calculation.

        Raises:
            ValueError: If ``'loss'`` or ``'predict'`` comes without a mask.
        """
        if mode == 'tensor':
            return self.backbone(image)
        if mask is None:
            raise ValueError(f'mode={mode!r} needs a mask (B, h, w); give one in the batch')
        if mode == 'loss':
            return self.loss(image, mask, num_masked)
        return self.predict(image, mask)

    def init_weights(self) -> None:
        """Initialise or load the backbone; the other parts are initialised at construction."""
        self.backbone.init_weights()


def build_decoder(neck: dict | nn.Module, options: Mapping[str, Any]) -> Any:
    """``neck`` as it is, or the decoder of that config and of the ``options`` it leaves open.

    Raises:
        ValueError: If its weights alone are more than the memory of the machine.
    """
    if isinstance(neck, nn.Module):
        return neck
    config = {**options, **neck}
    needed, memory = size_of(config), memory_of_machine()
    if needed > memory:
        sizes = ', '.join(f'{k}={v}' for k, v in neck.items() if k != 'type') or 'its own sizes'
        raise ValueError(
            f'the weights of {config["type"]} with {sizes} take {needed / 2**30:.0f} GiB, and this '
            f'machine has {memory / 2**30:.0f} GiB of memory: set a smaller width of the neck, or '
            "take type='A2MIM' (--method a2mim), whose decoder is one linear layer"
        )
    return MODELS.build(config)


def size_of(config: dict) -> float:
    """Bytes of the weights of a module, which is built without any; 0 where that is impossible."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device('meta'):
            return sum(p.numel() * p.element_size() for p in MODELS.build(config).parameters())
    except Exception as error:  # of any type: what is wrong shows when it is built in earnest
        return 2.0**63 if 'overflow' in str(error) else 0


def memory_of_machine() -> float:
    """Bytes; without end where the system does not tell."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError, OSError):
        return math.inf
