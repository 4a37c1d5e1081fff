"""Any timm model as a trunk that hides positions behind one of its modules.

Axes: B batch, C channels, (H, W) features, (h, w) mask blocks.
"""

from collections.abc import Sequence
from functools import partial

import torch
from mmengine.model import BaseModule, initialize
from timm.models import group_parameters
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.masking import upsample_mask
from a2mim.models.mask_token import MaskToken
from a2mim.models.multi_scale import MultiScaleReader
from a2mim.models.timm_inspection import (
    Geometry,
    create_trunk,
    create_trunk_for_any_size,
    enable_checkpointing,
    find_module,
    fitting_blocks,
    image_shapes,
    last_block,
    prefers_channels_last,
    trace_first_fit,
)
from a2mim.registry import MODELS
from a2mim.weights.fit import LoadReport, load_backbone
from a2mim.weights.safe_load import load_file

# [role]
# What a trunk is for: hiding features, giving maps to a detector, or classifying. One of them.


def check_role(
    out_indices: Sequence[int] | None,
    num_classes: int,
    mask_after: str | int | None,
    mask_token: dict | None,
) -> None:
    """Refuse options of ``TimmBackbone`` that belong to different roles.

    Raises:
        ValueError: If so.
    """
    if mask_after is None and mask_token is not None:
        raise ValueError(f'mask_token={mask_token} needs mask_after, the place to put it')
    if mask_after is not None and num_classes:
        raise ValueError(
            f'mask_after={mask_after!r} hides features of a trunk; leave it out with '
            f'num_classes={num_classes}, a classifier'
        )
    if out_indices is not None and (mask_after is not None or num_classes):
        raise ValueError(
            f'out_indices={tuple(out_indices)} are for a trunk that hides nothing: leave '
            'mask_after and num_classes out'
        )


# [frozen_stages]
# The lower part of a trunk kept as it is in training, and batch norm that keeps its statistics.
#
# Stage 0 is the stem: whatever timm counts as such, with the class token and the positions of a
# ViT. The stages above it are those of timm's ``feature_info``; for a ViT they are its blocks.


def keep_stages(model: nn.Module, frozen_stages: int, *, norm_eval: bool) -> list[nn.Module]:
    """Take the gradient from the stem and the first ``frozen_stages`` stages.

    Args:
        model: A timm model.
        frozen_stages: -1 for nothing, 0 for the stem alone.
        norm_eval: Whether the statistics of every batch norm are kept as well.

    Returns:
        The modules to keep in evaluation mode: those that are frozen as a whole, and batch norms.

    Raises:
        ValueError: If the model has no so many stages.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = norms if norm_eval else []
    if frozen_stages == -1:
        return kept
    frozen = _names_below(model, frozen_stages)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for path, module in model.named_modules():
        own = {f'{path}.{name}' for name, _ in module.named_parameters()}
        if own and own <= frozen:
            kept.append(module)
    return kept


def _names_below(model: nn.Module, frozen_stages: int) -> set[str]:
    stage_of = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    stages = tuple(f'{info["module"]}.' for info in model.feature_info)
    highest = max(stage for name, stage in stage_of.items() if name.startswith(stages))
    if not 0 <= frozen_stages <= highest:
        raise ValueError(
            f'frozen_stages={frozen_stages} must be within -1 and {highest}, the stages of '
            f'{type(model).__name__}'
        )
    return {name for name, stage in stage_of.items() if stage <= frozen_stages}


def load_trunk(model: nn.Module, checkpoint: str) -> LoadReport:
    """Load the backbone in the file ``checkpoint``, of any system, into a timm network.

    Positions are resized to the image size of ``model``. A classifier of another number of classes
    stays out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or one of another architecture.
    """
    return load_backbone(model, load_file(checkpoint), checkpoint)


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A timm trunk with a mask token behind the module that ``mask_after`` names.

    ``backbone.model`` is an untouched timm model: its ``state_dict()`` loads strictly in timm.
    A forward hook puts the token in, so that no family needs code of its own.

    Args:
        model_name: timm model, for example ``'resnet50'``.
        mask_after: Module path (``'layer3'``, ``'stages.3.downsample'``, ``'patch_embed'``) or
            index into timm's ``feature_info`` (-2: last but one stage);
            ``tools/analysis_tools/list_stages.py`` prints the choice. None: no token, and a mask
            has no effect.
        mask_token: Options of ``MaskToken``.
        out_indices: Indices into timm's ``feature_info`` (blocks of a ViT), for a detector: maps
            from there, for images of any size, in place of the last one. See
            ``MultiScaleReader``.
        frozen_stages: Stages above the stem, or blocks of a ViT, that are not trained, with the
            stem; 0 freezes the stem alone, -1 nothing.
        norm_eval: Keep the statistics of batch norm as they are.
        grad_checkpointing: Trade compute for memory.
        num_classes: 0 for a trunk without pooling; more for timm's complete classifier.
        init_cfg: mmengine initialisers for the trunk, or ``dict(type='Pretrained',
            checkpoint=PATH)``, which fails where the file does not fit.
        timm_kwargs: Passed to ``timm.create_model`` (``img_size``, ``in_chans``, …).

    Attributes:
        out_channels: Channels of what ``forward`` returns; with ``out_indices``, of each map.
        stride: Pixels per position of it, int or (height, width); None for a classifier.
        mask_channels, mask_stride: The same where the token goes in; None without a token.
        prefers_channels_last: Whether the trunk is convolutional.

    Shape:
        image: (B, C, height, width), normalised pixels.
        mask: (B, h, w), 1 where hidden.
        returns: (B, out_channels, H, W); with ``num_classes``, logits (B, num_classes); with
            ``out_indices``, a tuple of maps.

    Raises:
        ValueError: If timm has no such model or module, or the model cannot work: it takes no
            such image, returns no feature map, or runs the module more or less than once.
        TypeError: If the model does not take one of the options.

    Reference:
        Wightman, PyTorch Image Models (https://github.com/huggingface/pytorch-image-models).
    """

    def __init__(
        self,
        model_name: str,
        mask_after: str | int | None = None,
        mask_token: dict | None = None,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        grad_checkpointing: bool = False,
        num_classes: int = 0,
        init_cfg: dict | list[dict] | None = None,
        **timm_kwargs: object,
    ) -> None:
        super().__init__(init_cfg)
        check_role(out_indices, num_classes, mask_after, mask_token)
        if not num_classes:
            timm_kwargs.setdefault('global_pool', '')
        create = create_trunk if out_indices is None else create_trunk_for_any_size
        self.model = create(model_name, num_classes=num_classes, **timm_kwargs)
        if grad_checkpointing:
            enable_checkpointing(self.model)
        self.grad_checkpointing = grad_checkpointing
        self._kept = keep_stages(self.model, frozen_stages, norm_eval=norm_eval)
        self.prefers_channels_last = prefers_channels_last(self.model)
        self.out_channels, self.stride, self._layout = num_classes, None, None
        self.mask_after = self.mask_channels = self.mask_stride = self.mask_token = None
        self._masking: tuple[Tensor, tuple[int, int]] | None = None
        self._inserted = False
        self._reader = None
        if out_indices is not None:
            self._reader = MultiScaleReader(self.model, out_indices)
            self.out_channels, self.stride = self._reader.out_channels, self._reader.stride
            return
        if mask_after is not None:
            self.mask_after, place = find_module(self.model, mask_after)
            # A bound method, not a closure: copy.deepcopy (EMA) rebinds it to the copy.
            last_block(place).register_forward_hook(self._insert_token)
        shapes = image_shapes(self.model, timm_kwargs)
        self._in_channels = shapes[0][0]
        if not num_classes:
            self._fit(trace_first_fit(self.model, shapes, self._places()), mask_token or {})

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode ``image``, its features hidden where ``mask`` is 1."""
        if self._reader is not None:
            return self._reader(image)
        image_size = (image.shape[2], image.shape[3])
        if mask is None or self.mask_after is None:
            features = self.model(image)
        elif mask.ndim != 3 or len(mask) != len(image):
            raise ValueError(
                f'mask {tuple(mask.shape)} must be (B, h, w), B that of image {tuple(image.shape)}'
            )
        else:
            features = self._masked_pass(image, (mask, image_size))
        return features if self._layout is None else self._layout.to_map(features, image_size)

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Switch to training, all but what is frozen."""
        super().train(mode)
        for module in self._kept:
            module.eval()
        return self

    def init_weights(self) -> None:
        """Apply ``init_cfg`` to the trunk.

        timm initialised it when it was built. Doing that again, as mmengine would do, would throw
        away weights that timm has loaded.
        """
        entries = self.init_cfg or []
        for entry in [entries] if isinstance(entries, dict) else entries:
            if entry['type'] == 'Pretrained':
                load_trunk(self.model, **{k: v for k, v in entry.items() if k != 'type'})
            else:
                initialize(self.model, entry)
        self.is_init = True

    def check_mask_grid(self, image_size: tuple[int, int], grid: tuple[int, int]) -> None:
        """Raise where a mask of ``grid`` (h, w) blocks cannot hide features of such images.

        Raises:
            ValueError: If the trunk takes no such image, or its features there do not fall into
                the blocks (the message says which fit), or its stride depends on the image size.
        """
        if self.mask_after is None:
            return
        shape = (self._in_channels, *image_size)
        geometry = trace_first_fit(self.model, [shape], self._places())
        stride = geometry.output().stride
        if stride != self.stride:
            raise ValueError(
                f'images of {image_size[0]}×{image_size[1]} pixels come out with stride {stride}, '
                f'others with {self.stride}; choose another image size'
            )
        self._check_blocks(grid, geometry.at(self.mask_after).grid, image_size)

    def _places(self) -> dict[str, nn.Module]:
        names = [] if self.mask_after is None else [self.mask_after]
        return {name: self.model.get_submodule(name) for name in names}

    def _fit(self, geometry: Geometry, mask_token: dict) -> None:
        """Take widths and strides from the trunk, and make a token of that width."""
        self._layout = geometry.output()
        self.out_channels, self.stride = self._layout.channels, self._layout.stride
        if self.mask_after is not None:
            self._mask_layout = geometry.at(self.mask_after)
            self.mask_channels = self._mask_layout.channels
            self.mask_stride = self._mask_layout.stride
            self.mask_token = MaskToken(self.mask_channels, **mask_token)

    def _masked_pass(self, image: Tensor, masking: tuple[Tensor, tuple[int, int]]) -> Tensor:
        self._masking, self._inserted = masking, False
        try:
            features = self.model(image)
        finally:
            self._masking = None
        if not self._inserted:
            raise RuntimeError(f'{self.mask_after!r} did not run: the features are not masked')
        if self.grad_checkpointing and features.requires_grad:
            # Checkpointing runs the hook again in the backward pass, which starts here.
            features.register_hook(partial(self._mask_again, masking))
        return features

    def _mask_again(self, masking: tuple[Tensor, tuple[int, int]], _gradient: Tensor) -> None:
        self._masking = masking
        Variable._execution_engine.queue_callback(self._stop_masking)

    def _stop_masking(self) -> None:
        self._masking = None

    def _insert_token(self, _module: nn.Module, _inputs: tuple, features: Tensor) -> Tensor:
        if self._masking is None:
            return features
        self._inserted = True
        mask, image_size = self._masking
        layout = self._mask_layout
        grid = layout.grid_at(features, image_size)
        self._check_blocks(tuple(mask.shape[1:]), grid, image_size)
        hidden = upsample_mask(mask, grid)
        prefix, patches = layout.split(features)
        hidden = hidden if layout.is_map else hidden.flatten(1)
        return layout.join(prefix, self.mask_token(patches, hidden, layout.channel_axis))

    def _check_blocks(
        self, blocks: tuple[int, int], grid: tuple[int, int], image_size: tuple[int, int]
    ) -> None:
        if grid[0] % blocks[0] or grid[1] % blocks[1]:
            fitting = ', '.join(map(str, fitting_blocks(grid, image_size))) or 'none'
            raise ValueError(
                f'a mask of {blocks[0]}×{blocks[1]} blocks does not fit mask_after='
                f'{self.mask_after!r}, which has {grid[0]}×{grid[1]} features for an image of '
                f'{image_size[0]}×{image_size[1]} pixels; block sizes that fit: {fitting}'
            )


# [parts]
# What every algorithm does with its backbone once it is built.


def build_backbone(config: dict, data_preprocessor: nn.Module) -> nn.Module:
    """Build a backbone and agree with the preprocessor on the memory layout of images.

    Convolutional trunks run in channels-last, 1.2 (ResNet) to 1.9 (ConvNeXt) times faster on the
    CPU; the preprocessor then writes that layout while it converts to float, at no extra cost.
    """
    backbone = MODELS.build(config)
    if backbone.prefers_channels_last:
        backbone.to(memory_format=torch.channels_last)
        data_preprocessor.memory_format = torch.channels_last
    return backbone
