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
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.models.timm_inspection import FeatureLayout, feature_maps, last_block, trace_shapes
from a2mim.models.visible_blocks import VisibleBlocks, hide, normalize
from a2mim.registry import MODELS

# What mixes positions, or is not 0 at a masked position whose input is: its output is masked.
MASKED = (nn.Conv2d, _MaxPoolNd, _AvgPoolNd, BlurPool2d, nn.Linear)
MASKED += (nn.LayerNorm, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d)
# Normalizations over positions, computed over the visible ones.
NORMS = (_BatchNorm, nn.GroupNorm)
# By name, since families have classes of their own. x · gate(mean of x over positions): the mean
# becomes that over visible positions.
GATES = re.compile('^((Effective)?SEModule|SqueezeExcit(e|eCl|ation)|EseModule|(Ec|Cec)aModule)$')
# With weights, and right as they are: of one position, or a sum over positions.
UNCHANGED = re.compile('LayerScale|GlobalResponseNorm|Affine|^Scale$|^PReLU$')
# What mixes all positions.
MIXING = re.compile(
    'Attn|Attention|MHSA|SHSA|SHMA|MLA|NonLocal|Lambda|SelectiveKernel|GlobalContext|Cbam|Modulation'
)
POOLED = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # a gate, but in a head
LEAST_STRIDE = 4  # of the maps for a decoder, as published


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
            ValueError: If the stride does not divide the image, or the blocks, or a layer has a
                grid of its own.
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

        layers = {n: m for n, m in self.model.named_modules() if isinstance(m, MASKED + NORMS)}
        _, shapes = trace_shapes(self.model, (self._in_channels, *image_size), layers.values())
        for name, layer in layers.items():
            for shape in [shape for shape in shapes[layer] if shape and len(shape) == 4]:
                rows, columns = shape[2:] if channel_axis(layer) == 1 else shape[-3:-1]
                if (rows, columns) != (1, 1) and (rows % grid[0] or columns % grid[1]):
                    why = f'{name} of {rows}×{columns} features, no multiple of {grid[0]}×{grid[1]}'
                    raise unfit(self.model, f'{why} mask blocks')

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
            depth = found.get(cast(int, at.stride), name).count('.')
            if isinstance(at.stride, int) and (
                name in stages if stages else name.count('.') <= depth
            ):
                found[at.stride] = name
        stride = self.stride
        if not isinstance(stride, int) or stride & (stride - 1) or len(found) < 2:
            strides = ', '.join(map(str, sorted(found))) or 'none'
            why = f'stages of stride {strides}, not of 4, 8, 16, …, and returns stride {stride}'
            raise unfit(self.model, why)
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
        if blocks is None or features.ndim != 4 or grid == (1, 1):
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
        what = f'{name} ({type(module).__name__})'
        raise unfit(model, f'{what}, which has no form for visible positions alone')


def unfit(model: nn.Module, why: str) -> ValueError:
    """The error of a network that has something which SparK cannot run."""
    return ValueError(
        f'SparK is for convolutional networks; {type(model).__name__} has {why}: take method '
        'a2mim, or for a ViT mae'
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
        odd = isinstance(child, _InstanceNorm) or GATES.search(kind) or MIXING.search(kind)
        odd = odd or (path and isinstance(child, POOLED))
        if unknown or odd or (isinstance(child, _BatchNorm) and child.momentum is None):
            yield place, child
        else:
            yield from misfits(child, place)
