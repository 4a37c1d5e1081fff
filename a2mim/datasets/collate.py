"""From a list of samples to a batch.

Axes: B batch, C channels, (H, W) pixels.
"""

from torch import Tensor
from torch.utils.data import default_collate

from a2mim.registry import FUNCTIONS


@FUNCTIONS.register_module()
def channels_last_collate(samples: list[dict]) -> dict[str, Tensor]:
    """Collate as torch does, but leave the colours of a pixel side by side in memory.

    Images leave the resize as (C, H, W) with strides (1, W·C, C). Stacked as they are, every image
    would be transposed on the way; stacked as (H, W, C) it is one copy.

    Shape:
        samples: dicts with ``image`` (C, H, W), and what else default collation takes.
        returns: dict with ``image`` (B, C, H, W) in channels-last memory format.
    """
    flipped = [{**sample, 'image': sample['image'].permute(1, 2, 0)} for sample in samples]
    batch = default_collate(flipped)
    batch['image'] = batch['image'].permute(0, 3, 1, 2)
    return batch
