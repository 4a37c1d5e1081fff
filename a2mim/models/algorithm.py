"""What the algorithms of masked image modelling share.

Axes: B batch, C channels, (H, W) pixels or features, (h, w) mask blocks.
"""

from collections.abc import Callable
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor

from a2mim.models.data_preprocessor import ImagePreprocessor


class MaskedModel(BaseModel):
    """Base class of an algorithm: a backbone, and what becomes of its features under a mask.

    A subclass sets ``backbone``, a ``TimmBackbone``, and defines ``loss(image, mask, num_masked)``.
    One whose output are images defines ``predict(image, mask)`` too, from which pictures are drawn;
    another sets ``pictures`` to False.

    Args:
        data_preprocessor: The ``ImagePreprocessor``, built.
    """

    data_preprocessor: ImagePreprocessor
    backbone: Any
    pictures = True
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
            TypeError: If ``'predict'`` is asked of an algorithm without pictures.
        """
        if mode == 'tensor':
            return self.backbone(image)
        if mask is None:
            raise ValueError(f'mode={mode!r} needs a mask (B, h, w); give one in the batch')
        if mode == 'loss':
            return self.loss(image, mask, num_masked)
        if not self.pictures:
            raise TypeError(f'{type(self).__name__} predicts no pixels: there is no picture of it')
        return self.predict(image, mask)

    def init_weights(self) -> None:
        """Initialise or load the backbone; the other parts are initialised at construction."""
        self.backbone.init_weights()
