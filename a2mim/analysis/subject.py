"""A network to look into.

Axes: B batch, C channels, (H, W) pixels.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from a2mim.models.data_preprocessor import ImagePreprocessor


@dataclass(frozen=True)
class Subject:
    """One column of a figure.

    Measurements run it under ``torch.no_grad``, not in inference mode: some of timm's networks
    (ConViT) keep a tensor of one pass for the next, which may need a gradient.

    Attributes:
        label: What figures and tables call it.
        source: What it was read from, as it was given.
        model: A plain timm model in evaluation mode, a trunk or with its classifier.
        preprocessor: Makes normalised batches of uint8 images, and pictures of them.
        image_size: (H, W) that it was trained on.
        whole: Of a checkpoint, what ``a2mim.load_model`` returns: ``A2MIM``, ``SimMIM`` or
            ``ImageClassifier`` around ``model``, or the ``TimmBackbone``; None for a timm model.
    """

    label: str
    source: str
    model: nn.Module
    preprocessor: ImagePreprocessor
    image_size: tuple[int, int]
    whole: nn.Module | None = None

    @property
    def num_classes(self) -> int:
        """Classes that ``model`` tells apart, 0 for a trunk."""
        return self.model.num_classes

    @property
    def channels(self) -> int:
        """C of its images."""
        return len(self.preprocessor.mean)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.preprocessor.mean.device

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) anywhere to the batch that ``model`` wants, on its device."""
        return self.preprocessor(dict(image=pixels.to(self.device)))['image']

    @property
    def has_decoder(self) -> bool:
        """Whether it reconstructs images: ``whole`` has what pre-training has behind the trunk."""
        return hasattr(self.whole, 'neck') and hasattr(self.whole, 'predict')

    def fingerprint(self) -> str:
        """Of all its weights, see ``fingerprint``."""
        return fingerprint((self.model if self.whole is None else self.whole).state_dict())


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Eight hexadecimal digits that change with any name or number."""
    check = 0
    for name, tensor in tensors.items():
        check = zlib.crc32(name.encode(), check)
        check = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).numpy(), check)
    return f'{check:08x}'
