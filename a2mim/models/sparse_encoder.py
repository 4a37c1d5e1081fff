"""A convolutional network on the visible blocks of an image, by masked dense convolutions.

The output of every convolution and pooling is set to 0 where masked, normalizations and
channel gates take their statistics from visible positions, and the mask of a feature map is that of
the blocks, repeated to its grid. This happens in hooks by module type: the network is timm's, with
timm's names of weights. Nothing is read from the device.

Axes: B batch, C channels, (H, W) positions of a map, (h, w) mask blocks.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
from timm.layers.blur_pool import BlurPool2d
from timm.layers.norm import RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from a2mim.masking import upsample_mask
from a2mim.models.timm_backbone import TimmBackbone
from a2mim.models.timm_inspection import (
    FeatureLayout,
    feature_maps,
    last_block,
)
from a2mim.registry import MODELS

# What mixes positions, or is not 0 at a masked position whose input is: its output is masked.
MASKED = (nn.Conv2d, _MaxPoolNd, _AvgPoolNd, BlurPool2d, nn.Linear)
MASKED += (nn.LayerNorm, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d)
# Normalizations over positions, computed over the visible ones.
NORMS = (_BatchNorm, nn.GroupNorm)
# By name, since families have classes of their own. x · gate(mean of x over positions): the mean
# becomes that over visible positions.
GATES = re.compile('^((Effective)?SEModule|SqueezeExcite(Cl)?|EseModule|(Ec|Cec)aModule)$')
# With weights, and right as they are: of one position, or a sum over positions.
UNCHANGED = re.compile('LayerScale|GlobalResponseNorm|Affine|^Scale$|^PReLU$')
# What mixes all positions.
MIXING = re.compile(
    'Attn|Attention|MHSA|SHSA|SHMA|MLA|NonLocal|Lambda|SelectiveKernel|GlobalContext|Cbam|Modulation'
)
REFUSED = (_InstanceNorm, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
LEAST_STRIDE = 4  # of the maps for a decoder, as published


class VisibleBlocks:
    """A mask (B, h, w), 1 where masked, and what the layers of one pass need of it."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._hidden: dict[tuple[int, int], Tensor] = {}
        self._visible = (mask == 0).flatten(1).sum(1)  # blocks of each image, (B,)

    def hidden(self, features: Tensor, axis: int = 1) -> Tensor:
        """True where masked: (B, 1, H, W), or for channels in the last ``axis`` (B, H, W, 1)."""
        shape = features.shape[2:] if axis == 1 else features.shape[1:3]
        grid = (shape[0], shape[1])
        if len(features) != len(self.mask):
            raise ValueError(
                f'{len(features)} feature maps are not those of {len(self.mask)} masks'
            )
        if grid not in self._hidden:
            self._hidden[grid] = upsample_mask(self.mask, grid).bool().unsqueeze(1)
        return self._hidden[grid] if axis == 1 else self._hidden[grid].movedim(1, -1)

    def count(self, features: Tensor) -> Tensor:
        """Visible positions of the whole batch, (), at least 1."""
        positions = features.shape[2] * features.shape[3] // self.mask[0].numel()
        visible = self._visible.sum().clamp(min=1) * positions
        return visible.to(torch.promote_types(features.dtype, torch.float32))

    def stretch(self, features: Tensor) -> Tensor:
        """Positions per visible one of each image, (B, 1, 1, 1); 1 where nothing is masked."""
        visible = self._visible.clamp(min=1).view(-1, 1, 1, 1)
        return self.mask[0].numel() / visible.to(torch.promote_types(features.dtype, torch.float32))


def hide(x: Tensor, hidden: Tensor) -> Tensor:
    """``x`` with 0 where ``hidden``, in its layout in memory, which ``masked_fill`` would lose."""
    return torch.where(hidden, x.new_zeros(()), x)


def normalize(norm: nn.Module, x: Tensor, blocks: VisibleBlocks) -> Tensor:
    """What ``norm`` makes of the visible positions of ``x`` (B, C, H, W) alone; 0 elsewhere.

    Args:
        norm: One of ``NORMS``, or a norm of single positions.
        x: 0 where masked.
        blocks: The mask.
    """
    hidden = blocks.hidden(x)
    if isinstance(norm, nn.GroupNorm):
        y = _activate(norm, _group_norm(norm, x, hidden, blocks.stretch(x)))
    elif isinstance(norm, _BatchNorm) and (norm.training or norm.running_mean is None):
        y = _batch_norm(norm, x, hidden, blocks.count(x))
    else:
        y = cast(Any, type(norm)).forward(norm, x)
    return hide(y, hidden)


def _batch_norm(norm: _BatchNorm, x: Tensor, hidden: Tensor, count: Tensor) -> Tensor:
    """Batch normalization with the statistics of the ``count`` visible positions.

    With their mean at the masked ones, the mean over all N positions is the same, and the variance
    ``count / N`` of what it should be. torch's kernel gets features that are scaled by the root of
    N / ``count``, and a weight that is divided by it. With nothing masked all factors are 1, and
    the result is that of the layer to the last bit.
    """
    number = torch.full_like(count, x.numel() // x.shape[1])
    mean = (x.mean((0, 2, 3), keepdim=True) * (number / count)).to(x.dtype)
    if hasattr(norm, 'joins') and cast(Any, norm).joins():  # JointBatchNorm, of sync_bn
        filled = torch.where(hidden, mean.detach(), x)  # its gradient is that of visible positions
        return cast(Any, type(norm)).forward(norm, filled, count)
    filled = torch.where(hidden, mean, x)
    root = (number / count).sqrt()
    unbiased = (count * (number - 1)) / ((count - 1).clamp(min=1) * number)
    kept = norm.training and norm.track_running_stats
    running_mean = cast(Tensor, norm.running_mean) * root if kept else None
    running_var = cast(Tensor, norm.running_var) / unbiased if kept else None
    weight = (1 / root).expand(x.shape[1]) if norm.weight is None else norm.weight / root
    y = F.batch_norm(
        filled * root,
        running_mean,
        running_var,
        weight.to(root.dtype),
        norm.bias,
        True,
        cast(float, norm.momentum),
        norm.eps,
    )
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            cast(Tensor, norm.num_batches_tracked).add_(1)
            cast(Tensor, norm.running_mean).copy_(running_mean / root)
            cast(Tensor, norm.running_var).copy_(running_var * unbiased)
    return _activate(norm, y)


def _group_norm(norm: nn.GroupNorm, x: Tensor, hidden: Tensor, stretch: Tensor) -> Tensor:
    """The same for each image and group of channels; ``stretch`` (B, 1, 1, 1) is N / count."""
    groups = x.unflatten(1, (norm.num_groups, -1))  # (B, G, C / G, H, W)
    mean = groups.mean((2, 3, 4), keepdim=True) * stretch[..., None]
    filled = torch.where(hidden[:, None], mean.to(x.dtype), groups).flatten(1, 2)
    root = stretch.sqrt()
    scaled = (filled * root).to(x.dtype)
    y = F.group_norm(scaled, norm.num_groups, norm.weight, norm.bias, norm.eps)
    bias = y.new_zeros(()) if norm.bias is None else norm.bias.view(1, -1, 1, 1).to(y.dtype)
    return torch.lerp(bias.expand_as(y), y, (1 / root).to(y.dtype))


def _activate(norm: nn.Module, x: Tensor) -> Tensor:
    """Dropout and activation, of timm's norms that have them."""
    for name in ('drop', 'act'):
        x = getattr(norm, name, nn.Identity())(x)
    return x


@MODELS.register_module()
class SparseBackbone(TimmBackbone):
    """A convolutional network that sees the visible blocks of an image and nothing of the mask.

    Without a mask it is the plain network; with nothing masked its output is the same, bit for bit.

    Args:
        model_name: timm model, or a network, as of ``TimmBackbone``.
        kwargs: Options of ``TimmBackbone``, but those of a mask token.

    Attributes:
        stages: The maps that ``maps`` returns, the coarsest first: channels and strides.

    Shape:
        image: (B, C, height, width), normalised pixels.
        mask: (B, h, w), 1 where masked; every position of every map lies in one block.
        returns: (B, out_channels, H, W), 0 where masked.

    Raises:
        ValueError: If the network is not convolutional, or one of its layers has no masked form.
        TypeError: If an option is for a mask token, a detector or a classifier.

    Reference:
        Tian et al., SparK, ICLR 2023 (https://arxiv.org/abs/2301.03580), section 3.1.
    """

    def __init__(self, model_name: str | nn.Module, **kwargs: Any) -> None:
        needless = {'mask_after', 'mask_token', 'out_indices', 'num_classes'} & kwargs.keys()
        if needless:
            raise TypeError(
                f'SparseBackbone masks every layer and returns maps: leave {sorted(needless)} out'
            )
        super().__init__(model_name, **kwargs)
        self._blocks: VisibleBlocks | None = None
        self._maps: dict[str, Tensor] | None = None
        self._attached = False
        check_layers(self.model)
        self.stages = self._find_stages()

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ``image``, or its blocks that are visible."""
        if mask is None:
            return cast(Tensor, super().forward(image))
        return self.maps(image, mask)[0]

    def maps(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """The maps of ``stages`` (B, C, H, W) of the visible blocks, the coarsest first."""
        self._attach()
        size = (image.shape[2], image.shape[3])
        pixels = hide(image, VisibleBlocks(mask).hidden(image))
        self._maps = {}
        try:
            features = [self._masked_pass(pixels, (mask, size))]
            features += [self._maps[name] for name in self._names]
        finally:
            self._maps = None
        pairs = zip(self._layouts, features, strict=True)
        return [layout.to_map(x, size) for layout, x in pairs]

    def check_mask_grid(self, image_size: tuple[int, int], grid: tuple[int, int]) -> None:
        """Check that every position of every map lies in one block.

        Raises:
            ValueError: If the stride does not divide the image, or the blocks.
        """
        stride = cast(int, self.stride)
        if image_size[0] % stride or image_size[1] % stride:
            near = [max(1, round(size / stride)) * stride for size in image_size]
            raise ValueError(
                f'images of {image_size[0]}×{image_size[1]} pixels are no multiple of the stride '
                f'{stride} of {type(self.model).__name__}; choose {near[0]}×{near[1]}'
            )
        cells = [size // stride for size in image_size]
        if cells[0] % grid[0] or cells[1] % grid[1]:
            block = '×'.join(f'{size / n:g}' for size, n in zip(image_size, grid, strict=True))
            raise ValueError(
                f'mask blocks of {block} pixels are no multiple of {stride}, the stride of the '
                f'last features of {type(self.model).__name__}: set block_size={stride}, or take '
                'output_stride or another network for smaller blocks'
            )

    def visible(self) -> VisibleBlocks | None:
        """The mask of the pass that runs; None in one without."""
        if self._masking is None:
            return None
        if not torch.compiler.is_compiling():
            self._inserted = True
        if self._blocks is None or self._blocks.mask is not self._masking[0]:
            self._blocks = VisibleBlocks(self._masking[0])
        return self._blocks

    def _find_stages(self) -> list[tuple[int, int]]:
        """(C, stride) of the output and of the last stage of each smaller stride from 4 up."""
        layout = cast(FeatureLayout, self._layout)
        maps = feature_maps(self.model, (self._in_channels, *layout.image_size))
        stages = [info['module'] for info in getattr(self.model, 'feature_info', [])]
        found: dict[int, str] = {}
        for name, at in maps.items():
            if isinstance(at.stride, int) and (name in stages or not stages):
                found[at.stride] = name
        stride = self.stride
        if not isinstance(stride, int) or stride & (stride - 1) or len(found) < 2:
            strides = ', '.join(map(str, sorted(found))) or 'none'
            raise ValueError(
                f'SparK is for convolutional networks, whose stages have strides of 4, 8, 16, …; '
                f'{type(self.model).__name__} has {strides} and returns stride {stride}: take '
                'method a2mim, or for a ViT mae'
            )
        finer = [s for s in sorted(found, reverse=True) if LEAST_STRIDE <= s < stride]
        finer = [s for s in finer if not s & (s - 1)]
        self._names = [found[s] for s in finer]
        self._layouts = [layout, *(maps[name] for name in self._names)]
        return [(at.channels, s) for at, s in zip(self._layouts, [stride, *finer], strict=True)]

    def _attach(self) -> None:
        """Put the hooks in, at the first pass: until then layers may be replaced (SyncBN)."""
        if self._attached:
            return
        self._attached = True
        for module in self.model.modules():
            # Bound methods, not closures: copy.deepcopy (EMA) rebinds them to the copy.
            if isinstance(module, nn.SyncBatchNorm):
                raise ValueError(
                    "SparK has no masked form of torch's SyncBatchNorm; set sync_bn='torch', which "
                    'takes the layer of this package'
                )
            if isinstance(module, NORMS):
                cast(Any, module).forward = partial(self._normalize, module)
            elif isinstance(module, MASKED):
                module.register_forward_hook(self._mask)
            elif GATES.search(type(module).__name__):
                module.register_forward_pre_hook(self._open_gate)
                module.register_forward_hook(self._close_gate)
        for name in self._names:
            hook = partial(self._keep, name)
            last_block(self.model.get_submodule(name)).register_forward_hook(hook)

    def _normalize(self, norm: nn.Module, x: Tensor) -> Tensor:
        blocks = self.visible()
        if blocks is None or x.ndim != 4 or x.shape[2:] == (1, 1):
            return cast(Any, type(norm)).forward(norm, x)
        return normalize(norm, x, blocks)

    def _mask(self, module: nn.Module, _inputs: tuple, features: Tensor) -> Tensor:
        blocks = self.visible()
        axis = channel_axis(module)
        grid = features.shape[2:] if axis == 1 else features.shape[1:-1]
        if blocks is None or features.ndim != 4 or tuple(grid) == (1, 1):
            return features
        return hide(features, blocks.hidden(features, axis))

    def _open_gate(self, _gate: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Scale the input, so that its mean over all positions is that of the visible ones."""
        blocks, x = self.visible(), inputs[0]
        return None if blocks is None else ((x * blocks.stretch(x)).to(x.dtype), *inputs[1:])

    def _close_gate(self, _gate: nn.Module, _inputs: tuple, features: Tensor) -> Tensor:
        blocks = self.visible()
        if blocks is None:
            return features
        return (features / blocks.stretch(features)).to(features.dtype)

    def _keep(self, name: str, _module: nn.Module, _inputs: tuple, features: Tensor) -> None:
        if self._maps is not None:
            self._maps[name] = features


def channel_axis(module: nn.Module) -> int:
    """Where ``module`` has the channels of a map: -1 for linear layers and norms of them."""
    last = isinstance(module, nn.Linear | nn.LayerNorm | RmsNorm | SimpleNorm)
    return -1 if last and '2d' not in type(module).__name__ else 1


def check_layers(model: nn.Module) -> None:
    """Refuse a network with a layer for which there is no masked form.

    Raises:
        ValueError: If so, with the name of the layer.
    """
    for name, module in misfits(model):
        raise ValueError(
            f'SparK is for convolutional networks; {type(model).__name__} has {name} '
            f'({type(module).__name__}), which has no form for visible positions alone: take '
            'method a2mim, or for a ViT mae'
        )


def misfits(model: nn.Module, path: str = '') -> Iterator[tuple[str, nn.Module]]:
    """The layers below ``model`` that cannot run on visible positions, with their names."""
    for name, child in model.named_children():
        place, kind = f'{path}.{name}' if path else name, type(child).__name__
        if GATES.search(kind) and not getattr(child, 'add_maxpool', False):
            continue
        own = [*child.parameters(recurse=False), *child.buffers(recurse=False)]
        known = isinstance(child, NORMS + MASKED) or UNCHANGED.search(kind)
        unknown = own and not known and not [*child.children()]
        odd = isinstance(child, REFUSED) or GATES.search(kind) or MIXING.search(kind)
        if unknown or odd or (isinstance(child, _BatchNorm) and child.momentum is None):
            yield place, child
        else:
            yield from misfits(child, place)
