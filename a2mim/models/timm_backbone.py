"""Any timm model, or network of another origin, that masks features after one of its modules.

Axes: B batch, C channels, (H, W) features, (h, w) mask blocks.
"""

import runpy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.model import BaseModule, initialize
from mmengine.registry import DefaultScope
from timm.models import group_parameters
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.interfaces import TimmNetwork
from a2mim.masking import upsample_mask
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.mask_token import MaskToken
from a2mim.models.multi_scale import MultiScaleReader
from a2mim.models.timm_inspection import (
    FeatureLayout,
    Geometry,
    ImageShape,
    create_network,
    create_network_for_any_size,
    enable_checkpointing,
    feature_maps,
    find_module,
    find_output,
    fitting_blocks,
    image_shapes,
    last_block,
    prefers_channels_last,
    trace_first_fit,
)
from a2mim.registry import MODELS
from a2mim.weights.fit import LoadReport, load_backbone
from a2mim.weights.safe_load import asked_weights, choose_weights, load_file

# A mask (B, h, w), and the image size (height, width) it is for.
Masking = tuple[Tensor, tuple[int, int]]


def check_role(
    out_indices: Sequence[int] | None,
    num_classes: int,
    mask_after: str | int | None,
    mask_token: dict | None,
) -> None:
    """Check that only one use is asked for: masking, multi-scale features, or classification.

    Raises:
        ValueError: If the options of ``TimmBackbone`` are for several.
    """
    if mask_after is None and mask_token is not None:
        raise ValueError(f'mask_token={mask_token} needs mask_after, the module after which it is')
    if mask_after is not None and num_classes:
        raise ValueError(
            f'mask_after={mask_after!r} masks features; leave it out with the classifier of '
            f'num_classes={num_classes}'
        )
    if out_indices is not None and (mask_after is not None or num_classes):
        raise ValueError(
            f'out_indices={tuple(out_indices)} are for a backbone without a mask: leave '
            'mask_after and num_classes out'
        )


def check_given(
    out_indices: Sequence[int] | None, num_classes: int, options: Mapping[str, object]
) -> None:
    """Check the options of a network that is given as an object.

    Raises:
        ValueError, TypeError: If one is for models that timm builds.
    """
    if out_indices is not None or num_classes:
        raise ValueError(
            'out_indices and num_classes are for models by name in timm, not for a network'
        )
    unknown = sorted(options.keys() - {'img_size', 'in_chans'})
    if unknown:
        raise TypeError(f'{unknown} are options for timm; a network takes img_size and in_chans')


def freeze_stages(model: TimmNetwork, frozen_stages: int, *, norm_eval: bool) -> list[nn.Module]:
    """Freeze the stem and the first ``frozen_stages`` stages.

    Stage 0 is the stem as timm defines it, with the class token and the position embedding of a
    ViT. The other stages are those of timm's ``feature_info``: the blocks of a ViT.

    Args:
        model: A timm model.
        frozen_stages: -1 for nothing, 0 for the stem alone.
        norm_eval: Whether to keep the statistics of every batch norm, too.

    Returns:
        The modules to keep in evaluation mode: those frozen as a whole, and batch norms.

    Raises:
        ValueError: If the model does not have so many stages.
    """
    kept: list[nn.Module] = []
    if norm_eval:
        kept += [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if frozen_stages == -1:
        return kept
    frozen = _frozen_names(model, frozen_stages)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for path, module in model.named_modules():
        own = {f'{path}.{name}' for name, _ in module.named_parameters()}
        if own and own <= frozen:
            kept.append(module)
    return kept


def _frozen_names(model: TimmNetwork, frozen_stages: int) -> set[str]:
    """Names of the parameters of the stem and the first ``frozen_stages`` stages."""
    groups = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    stage_of = cast(dict[str, int], groups)
    stages = tuple(f'{info["module"]}.' for info in model.feature_info)
    highest = max(stage for name, stage in stage_of.items() if name.startswith(stages))
    if not 0 <= frozen_stages <= highest:
        raise ValueError(
            f'frozen_stages={frozen_stages} must be within -1 and {highest}, the stages of '
            f'{type(model).__name__}'
        )
    return {name for name, stage in stage_of.items() if stage <= frozen_stages}


def load_pretrained(model: nn.Module, checkpoint: str, weights: str | None = None) -> LoadReport:
    """Load the backbone in the file ``checkpoint``, of any system, into a timm network.

    Positions, patches and input channels are adapted to ``model`` as timm does. A classifier of
    another number of classes stays out. Of several sets of weights, the averaged one is taken, or
    with ``weights='raw'`` the other.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or one of another architecture.
    """
    with choose_weights(weights or asked_weights()):
        return load_backbone(model, load_file(checkpoint), checkpoint)


def in_other_package() -> bool:
    """Whether the default scope is that of another OpenMMLab package, not ours or mmengine's."""
    scope = DefaultScope.get_current_instance()
    return scope is not None and scope.scope_name not in ('a2mim', 'mmengine')


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A network with a mask token after the module that ``mask_after`` names.

    ``backbone.model`` is an untouched timm model: its ``state_dict()`` loads strictly in timm.
    A forward hook inserts the token, so that no family needs code of its own.

    Args:
        model_name: timm model, for example ``'resnet50'``; or a network of any origin, any
            ``nn.Module`` with feature maps. Where that returns something else, its features are
            the last map that one of its modules returns, and what it computes of it is not used.
        mask_after: Module path (``'layer3'``, ``'stages.3.downsample'``, ``'patch_embed'``) or
            index into timm's ``feature_info`` (-2: last but one stage);
            ``tools/analysis_tools/list_stages.py`` lists them. None: no token, and a mask has no
            effect.
        mask_token: Options of ``MaskToken``.
        out_indices: For detectors: indices into timm's ``feature_info`` (blocks of a ViT) of the
            maps to return, for images of any size. See ``MultiScaleReader``.
        frozen_stages: Stages above the stem, or blocks of a ViT, to freeze together with the
            stem; 0 freezes the stem alone, -1 nothing.
        norm_eval: Keep the statistics of batch norm fixed.
        grad_checkpointing: Recompute activations in the backward pass to save memory.
        num_classes: 0 for features without pooling; more for timm's complete classifier.
        init_cfg: mmengine initialisers for the backbone, or ``dict(type='Pretrained',
            checkpoint=PATH, weights='averaged')``, which fails where the file does not fit.
        timm_kwargs: Passed to the model of timm (``img_size``, ``in_chans``, …), also where they
            are None. ``final_norm=False`` leaves out the norm after the last block. Of a network,
            ``img_size`` and ``in_chans`` tell the images; its attribute ``num_prefix_tokens``, how
            many tokens come before those of patches (1).

    Attributes:
        out_channels: Channels of what ``forward`` returns; with ``out_indices``, of each map.
        stride: Pixels per position of it, int or (height, width); None for a classifier.
        mask_channels, mask_stride: The same at ``mask_after``; None without a token.
        prefers_channels_last: Whether the network is convolutional.

    Shape:
        image: (B, C, height, width), normalised pixels.
        mask: (B, h, w), 1 where masked.
        returns: (B, out_channels, H, W), or built under the default scope of another package,
            whose models take a tuple of maps, a tuple of this one; with ``num_classes``, logits
            (B, num_classes); with ``out_indices``, a tuple of maps.

    Raises:
        ValueError: If timm has no such model or module, or the model cannot work: it takes no
            such image, returns no feature map, or runs the module more or less than once.
        TypeError: If the model does not take one of the options, or takes it without any effect.

    Reference:
        Wightman, PyTorch Image Models (https://github.com/huggingface/pytorch-image-models).
    """

    def __init__(
        self,
        model_name: str | nn.Module,
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
        given = isinstance(model_name, nn.Module)
        if given:
            check_given(out_indices, num_classes, timm_kwargs)
            self.model = cast(TimmNetwork, model_name)
        else:
            if not num_classes:
                timm_kwargs.setdefault('global_pool', '')
            create = create_network if out_indices is None else create_network_for_any_size
            self.model = create(model_name, num_classes=num_classes, **timm_kwargs)
        if grad_checkpointing:
            enable_checkpointing(self.model)
        self.grad_checkpointing = grad_checkpointing
        self._given = given
        self._frozen = freeze_stages(self.model, frozen_stages, norm_eval=norm_eval)
        self.prefers_channels_last = prefers_channels_last(self.model)
        self.out_channels: int | tuple[int, ...] = num_classes
        self.stride: int | tuple[int, ...] | None = None
        self.mask_after: str | None = None
        self.mask_channels: int | None = None
        self.mask_stride: int | tuple[int, int] | None = None
        self.mask_token: MaskToken | None = None
        self._layout: FeatureLayout | None = None
        self._masking: Masking | None = None
        self._inserted = False
        self._output: str | None = None  # the module with the features, where it is not the model
        self._kept: Tensor | None = None
        self._in_tuple = not num_classes and in_other_package()
        self._reader: MultiScaleReader | None = None
        if out_indices is not None:
            self._reader = MultiScaleReader(self.model, out_indices)
            self.out_channels, self.stride = self._reader.out_channels, self._reader.stride
            return
        if mask_after is not None:
            self.mask_after, module = find_module(self.model, mask_after)
            # A bound method, not a closure: copy.deepcopy (EMA) rebinds it to the copy.
            last_block(module).register_forward_hook(self._insert_token)
        shapes = image_shapes(self.model, timm_kwargs)
        self._in_channels = shapes[0][0]
        if given and (name := find_output(self.model, shapes)):
            self._output = name
            last_block(self.model.get_submodule(name)).register_forward_hook(self._keep_output)
        if not num_classes:
            self._fit(self._trace(shapes), mask_token or {})

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode ``image``, its features masked where ``mask`` is 1."""
        if self._reader is not None:
            return self._reader(image)
        image_size = (image.shape[2], image.shape[3])
        if mask is None or self.mask_after is None:
            features = self._encode(image)
        elif mask.ndim != 3 or len(mask) != len(image):
            raise ValueError(
                f'mask {tuple(mask.shape)} must be (B, h, w), B that of image {tuple(image.shape)}'
            )
        else:
            features = self._masked_pass(image, (mask, image_size))
        features = features if self._layout is None else self._layout.to_map(features, image_size)
        return (features,) if self._in_tuple else features

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Keep frozen modules in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def init_weights(self) -> None:
        """Apply ``init_cfg`` to the timm model.

        timm initialises it at construction. mmengine would initialise it again, and so overwrite
        weights that timm has loaded.
        """
        entries = self.init_cfg or []
        for entry in [entries] if isinstance(entries, dict) else entries:
            if entry['type'] == 'Pretrained':
                load_pretrained(self.model, **{k: v for k, v in entry.items() if k != 'type'})
            else:
                initialize(self.model, entry)
        self.is_init = True

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images that channels and strides were read with."""
        assert self._layout is not None, 'of a classifier they are not'
        return self._layout.image_size

    def check_mask_grid(self, image_size: tuple[int, int], grid: tuple[int, int]) -> None:
        """Check that a mask of ``grid`` (h, w) blocks fits the features of such images.

        Raises:
            ValueError: If the network takes no such image, its features do not fall into the
                blocks (the message says which fit), or its stride depends on the image size.
        """
        if self.mask_after is not None:
            geometry = self._geometry(image_size)
            self._check_blocks(grid, geometry.at(self.mask_after).grid, image_size)

    def grid_of(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of the features of images of so many pixels.

        Raises:
            ValueError: If the network takes no such image, or with another stride.
        """
        return self._geometry(image_size).output().grid

    def _geometry(self, image_size: tuple[int, int]) -> Geometry:
        geometry = self._trace([(self._in_channels, *image_size)])
        stride = geometry.output().stride
        if stride != self.stride:
            raise ValueError(
                f'images of {image_size[0]}×{image_size[1]} pixels come out with stride {stride}, '
                f'others with {self.stride}; choose another image size'
            )
        return geometry

    def places(self) -> str:
        """The modules after which a mask token can be, with their strides, for a message."""
        if self._layout is None:
            return 'none'
        maps = feature_maps(self.model, (self._in_channels, *self._layout.image_size))
        outer = {name: layout for name, layout in maps.items() if name.count('.') < 2}
        return ', '.join(f'{name} (stride {layout.stride})' for name, layout in outer.items())

    def _trace(self, shapes: Sequence[ImageShape]) -> Geometry:
        names = [name for name in (self.mask_after, self._output) if name is not None]
        modules = {name: self.model.get_submodule(name) for name in names}
        return trace_first_fit(self.model, shapes, modules, self._output)

    def _encode(self, image: Tensor) -> Tensor:
        """What the model returns; the output of ``_output`` where that has the features."""
        returned = self.model(image)
        if self._output is None:
            return returned
        features, self._kept = cast(Tensor, self._kept), None
        return features

    def _keep_output(self, _module: nn.Module, _inputs: tuple, features: Tensor) -> None:
        self._kept = features

    def _fit(self, geometry: Geometry, mask_token: dict) -> None:
        """Read channels and strides from ``geometry``, and make a token of that width."""
        self._layout = geometry.output()
        self.out_channels, self.stride = self._layout.channels, self._layout.stride
        if self.mask_after is not None:
            self._mask_layout = geometry.at(self.mask_after)
            self.mask_channels = self._mask_layout.channels
            self.mask_stride = self._mask_layout.stride
            self.mask_token = MaskToken(self.mask_channels, **mask_token)

    def _masked_pass(self, image: Tensor, masking: Masking) -> Tensor:
        # Compiled blocks that a backward pass computes again may set nothing, or they run
        # uncompiled. Their graph holds the token, and no hook runs again.
        compiling = torch.compiler.is_compiling()
        self._masking, self._inserted = masking, compiling
        try:
            features = self._encode(image)
        finally:
            self._masking = None
        if not self._inserted:
            raise RuntimeError(f'{self.mask_after!r} did not run: the features are not masked')
        recomputes = self.grad_checkpointing or self._given  # a given network may by itself
        if recomputes and features.requires_grad and not compiling:
            # Checkpointing runs the hook again in the backward pass, which begins here.
            features.register_hook(partial(self._mask_again, masking))
        return features

    def _mask_again(self, masking: Masking, _gradient: Tensor) -> None:
        self._masking = masking
        Variable._execution_engine.queue_callback(self._stop_masking)

    def _stop_masking(self) -> None:
        self._masking = None

    def _insert_token(self, _module: nn.Module, _inputs: tuple, features: Tensor) -> Tensor:
        if self._masking is None or self.mask_token is None:
            return features
        if not torch.compiler.is_compiling():
            self._inserted = True
        mask, image_size = self._masking
        layout = self._mask_layout
        grid = layout.grid_at(features, image_size)
        self._check_blocks((mask.shape[1], mask.shape[2]), grid, image_size)
        masked = upsample_mask(mask, grid)
        prefix, patches = layout.split(features)
        masked = masked if layout.is_map else masked.flatten(1)
        return layout.join(prefix, self.mask_token(patches, masked, layout.channel_axis))

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


@MODELS.register_module()
class OwnBackbone(TimmBackbone):
    """A network of one's own, as a config names it: what a function in a Python file returns.

    The file is run. A checkpoint that names one is therefore refused, unless its config is given.

    Args:
        network: ``'FILE.py:FUNCTION'``; the function, or class, is called without arguments.
        options: Of ``TimmBackbone`` for a network: ``mask_after``, ``img_size``, ``in_chans``, ….

    Raises:
        ValueError, FileNotFoundError, TypeError: If there is no such file or function, or it
            returns no ``nn.Module``.
    """

    def __init__(self, network: str, **options: Any) -> None:
        super().__init__(own_network(network), **options)


def own_network(place: str) -> nn.Module:
    """What the function at ``'FILE.py:FUNCTION'`` returns, see ``OwnBackbone``."""
    file, _, function = place.rpartition(':')
    path = Path(file).expanduser()
    if path.suffix != '.py' or not function:
        raise ValueError(f'network {place!r} is no FILE.py:FUNCTION')
    if not path.is_file():
        raise FileNotFoundError(f'network {place}: there is no file {path}')
    made = runpy.run_path(str(path)).get(function)
    if not callable(made):
        raise ValueError(f'network {place}: {path} has no function {function!r}')
    network = made()
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise TypeError(f'network {place}: {function}() gives a {kind}, no nn.Module')
    return network


def build_backbone(
    config: dict | nn.Module, data_preprocessor: ImagePreprocessor, **mask: Any
) -> TimmBackbone:
    """Build a backbone and set the memory layout of its images in the preprocessor.

    Convolutional networks run in channels-last, 1.2 (ResNet) to 1.9 (ConvNeXt) times faster on the
    CPU; the preprocessor writes that layout while it converts to float, at no extra cost.
    """
    mask = {name: value for name, value in mask.items() if value is not None}
    with DefaultScope.overwrite_default_scope('a2mim'):  # our algorithms take a map, not a tuple
        if isinstance(config, TimmBackbone):
            if mask:
                raise ValueError(f'the backbone is built already: give {sorted(mask)} to it')
            backbone = config
        elif isinstance(config, nn.Module):
            backbone = TimmBackbone(config, in_chans=len(data_preprocessor.mean), **mask)
        else:
            backbone = MODELS.build({**config, **mask} if mask else config)
    if backbone.prefers_channels_last:
        backbone.to(memory_format=torch.channels_last)
        data_preprocessor.channels_last = True
    return backbone
