"""Reconstructions of images, as pictures.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

import numpy as np
import torch
from torch import Tensor, nn

from a2mim.inference.images import Image, as_batch
from a2mim.masking import block_grid, random_block_mask, upsample_mask


@torch.no_grad()
def reconstruct(
    model: nn.Module,
    image: Image,
    *,
    ratio: float | None = None,
    block_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Hide blocks of one image and let ``model`` say what is behind them.

    Args:
        model: An ``A2MIM`` or ``SimMIM`` from ``load_model``.
        image: One image, see ``as_batch``.
        ratio: Share of hidden blocks; None as in pre-training (0.6 in the paper).
        block_size: Pixels of a side of a block; None as in pre-training (32 in the paper).
        seed: Of the choice of blocks; another one hides others.

    Returns:
        uint8 arrays ready for ``PIL.Image.fromarray``, (H, W, C), or (H, W) for one channel:
        ``image``; ``visible``, what the method shows of it; ``reconstruction``, by the network
        everywhere; and ``mask``, (H, W), 255 where hidden.

    Raises:
        TypeError: If the model has no decoder.
        ValueError: If the blocks do not fit, or the image is none that the model can take.
    """
    if not (hasattr(model, 'neck') and hasattr(model, 'predict')):
        raise TypeError(
            f'{type(model).__name__} has no decoder and reconstructs nothing; load a whole '
            "pre-training checkpoint (a2mim.list_models() has names without '_ft_'), not a trunk "
            'alone or a classifier'
        )
    batch = as_batch(model, image)
    if len(batch) != 1:
        raise ValueError(f'reconstruct takes one image, not {len(batch)}')
    spec = model.input_spec
    grid = block_grid(spec.image_size, spec.block_size if block_size is None else block_size)
    share = spec.ratio if ratio is None else ratio
    blocks = random_block_mask(grid, share, np.random.default_rng(seed))
    return _pictures(model, batch, torch.from_numpy(blocks)[None].to(batch))


def _pictures(model: nn.Module, batch: Tensor, mask: Tensor) -> dict[str, np.ndarray]:
    outputs = model.predict(batch, mask)
    hidden = upsample_mask(mask, tuple(batch.shape[-2:]))[0].cpu().numpy()
    levels = model.data_preprocessor.denormalise
    names = ('image', 'visible', 'reconstruction')
    pictures = {name: _picture(levels(outputs[name])) for name in names}
    return {**pictures, 'mask': (255 * hidden).astype(np.uint8)}


def _picture(levels: Tensor) -> np.ndarray:
    picture = levels[0].permute(1, 2, 0).cpu().numpy()
    return picture[..., 0] if picture.shape[2] == 1 else np.ascontiguousarray(picture)
