"""Build timm models, find their modules, and read the layout of the features that these return.

Axes: B batch, C channels, (H, W) features, L patch tokens, P prefix tokens (class, registers).
timm has three layouts: (B, C, H, W), (B, H, W, C) and (B, P + L, C).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, cast

import timm
import torch
from timm.layers.helpers import to_2tuple
from torch import Tensor, nn
from torch.func import functional_call

from a2mim.interfaces import TimmNetwork
from a2mim.models.timm_options import build_with_options, refuse_unused_options, remove_final_norm
from a2mim.weights.safe_load import weights_only_switch

ImageShape = tuple[int, int, int]
# Of a tensor with B = 1 first; None for any other output.
Shape = tuple[int, ...] | None


def create_network(model_name: str, **timm_kwargs: Any) -> TimmNetwork:
    """Call ``timm.create_model``, with errors that name the remedy.

    None is a value like any other, which timm would drop. ``final_norm=False`` leaves out the norm
    after the last block, also in families where timm has no such option.

    Raises:
        ValueError: If timm has no such model, or none with these options, or ``checkpoint_path``
            names a file for timm to read.
        TypeError: If the model does not take one of the options, or takes it without any effect.
    """
    # timm resolves names such as hf-hub:… on the hub.
    if ':' not in model_name and not timm.is_model(model_name):
        close = get_close_matches(model_name.split('.')[0], timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f'timm {timm.__version__} has no model {model_name!r}; close to it: '
            f'{", ".join(close) or "nothing"}; timm.list_models() has all'
        )
    if 'checkpoint_path' in timm_kwargs:
        raise ValueError(
            f'checkpoint_path={timm_kwargs["checkpoint_path"]!r} would be loaded without the '
            "checks of this package; use init_cfg=dict(type='Pretrained', checkpoint=PATH)"
        )
    try:
        with weights_only_switch('1'):  # for what pretrained=True reads
            model = build_with_options(model_name, timm_kwargs)
    except (TypeError, AttributeError) as error:
        if timm_kwargs.get('final_norm') is False:  # the family may lack this option alone
            options = {name: value for name, value in timm_kwargs.items() if name != 'final_norm'}
            model = create_network(model_name, **options)
            remove_final_norm(model)
            return model
        raise TypeError(
            f'{model_name} does not take the options {sorted(timm_kwargs)}: {error}; '
            'an option of TimmBackbone may be misspelt'
        ) from error
    except AssertionError as error:
        raise ValueError(
            f'timm builds no {model_name} with the options {timm_kwargs}: {error}'
        ) from error
    refuse_unused_options(model, model_name, timm_kwargs)
    return cast(TimmNetwork, model)


def create_network_for_any_size(model_name: str, **timm_kwargs: Any) -> TimmNetwork:
    """``create_network`` for images of any size, by timm's option where the family has it.

    The weights and their names are the same. The other families need no option (convolutional
    networks) or the help of ``ImagePositions``.
    """
    try:
        return create_network(model_name, **{'dynamic_img_size': True, **timm_kwargs})
    except TypeError:
        return create_network(model_name, **timm_kwargs)


def find_module(model: nn.Module, mask_after: str | int) -> tuple[str, nn.Module]:
    """Name and module that ``mask_after`` means: a module name, or an index into ``feature_info``.

    Raises:
        ValueError: If there is no such module or no such index.
    """
    stages = [info['module'] for info in getattr(model, 'feature_info', [])]
    if isinstance(mask_after, str):
        name = mask_after
    elif -len(stages) <= mask_after < len(stages):
        name = stages[mask_after]
    else:
        raise ValueError(
            f'mask_after={mask_after} is not an index into the {len(stages)} stages {stages}'
        )
    modules = dict(model.named_modules())
    if name not in modules or not name:
        close = get_close_matches(name, modules, n=5)
        stages = stages or [child for child, _ in model.named_children()]
        raise ValueError(
            f'{type(model).__name__} has no module {name!r}; close to it: '
            f'{", ".join(close) or "nothing"}; its stages are {", ".join(stages)}'
        )
    return name, modules[name]


def last_block(module: nn.Module) -> nn.Module:
    """The last block of a Sequential, or ``module`` itself.

    With gradient checkpointing timm calls the blocks of a Sequential one by one, and skips the
    hooks of the container without any error.
    """
    while type(module).forward is nn.Sequential.forward and len(cast(nn.Sequential, module)):
        module = cast(nn.Sequential, module)[-1]
    return module


def enable_checkpointing(model: TimmNetwork) -> None:
    """Enable gradient checkpointing.

    Raises:
        ValueError: If timm has none for this family.
    """
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        raise ValueError(
            f'timm has no gradient checkpointing for {type(model).__name__}; '
            'use grad_checkpointing=False'
        ) from error


def prefers_channels_last(model: nn.Module) -> bool:
    """Whether a network is convolutional: it has a 2-D convolution with a kernel beyond its stride.

    Patch embeddings and projections have none; stems, stages and depth-wise convolutions do.
    """
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(max(conv.kernel_size) > min(conv.stride) for conv in convolutions)


# Sides of the images that a network is tried with if it is not timm's and does not tell.
SIDES = (224, 256, 384, 192, 128, 96, 64, 32, 28)


def image_shapes(model: nn.Module, timm_kwargs: Mapping[str, Any]) -> list[ImageShape]:
    """(C, height, width) of the images of a model, its default first.

    A model without a fixed size has a second one, a multiple of 32: EfficientNet-B4 has stride 32
    and a default of 380 pixels, which 32 does not divide. One that is not timm's has ``SIDES``.
    """
    channels = timm_kwargs.get('in_chans') or 3
    if timm_kwargs.get('img_size'):
        height, width = cast(tuple[int, int], to_2tuple(timm_kwargs['img_size']))
        return [(channels, height, width)]
    config = cast(Any, getattr(model, 'pretrained_cfg', None))
    if config is None:
        return [(channels, side, side) for side in SIDES]
    height, width = config['input_size'][-2:]
    shapes = [(channels, height, width)]
    if not config.get('fixed_input_size', False):
        shapes.append((channels, -(-height // 32) * 32, -(-width // 32) * 32))
    return shapes


@dataclass(frozen=True)
class FeatureLayout:
    """How to read the features that one module returns.

    Attributes:
        channels: C.
        channel_axis: 1 for (B, C, H, W), -1 for the other two.
        grid: (H, W) for an image of ``image_size`` pixels.
        image_size: (height, width) in pixels of the image of the trace.
        num_prefix: P, 0 for maps.
        is_map: Whether positions have two axes.
    """

    channels: int
    channel_axis: int
    grid: tuple[int, int]
    image_size: tuple[int, int]
    num_prefix: int = 0
    is_map: bool = True

    @property
    def stride(self) -> int | tuple[int, int] | None:
        """Pixels per position; None where that is not a whole number."""
        if any(size % cells for size, cells in zip(self.image_size, self.grid, strict=True)):
            return None
        rows, columns = self.image_size[0] // self.grid[0], self.image_size[1] // self.grid[1]
        return rows if rows == columns else (rows, columns)

    def grid_at(self, features: Tensor, image_size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of these features of an image of ``image_size`` pixels.

        Raises:
            ValueError: If tokens do not form a grid of the image's shape.
        """
        if self.is_map:
            shape = features.shape[2:] if self.channel_axis == 1 else features.shape[1:3]
            return shape[0], shape[1]
        rows = image_size[0] * self.grid[0] // self.image_size[0]
        columns = image_size[1] * self.grid[1] // self.image_size[1]
        if self.num_prefix + rows * columns != features.shape[1]:
            raise ValueError(
                f'{features.shape[1]} tokens, {self.num_prefix} of them extra, are not the '
                f'{rows}×{columns} patches of an image of {image_size[0]}×{image_size[1]} pixels; '
                'give images of a size that the patches tile'
            )
        return rows, columns

    def split(self, features: Tensor) -> tuple[Tensor | None, Tensor]:
        """Separate prefix tokens, if there are any, from positions."""
        if self.num_prefix == 0:
            return None, features
        return features[:, : self.num_prefix], features[:, self.num_prefix :]

    def join(self, prefix: Tensor | None, features: Tensor) -> Tensor:
        """Undo ``split``."""
        return features if prefix is None else torch.cat([prefix, features], dim=1)

    def to_map(self, features: Tensor, image_size: tuple[int, int]) -> Tensor:
        """(B, C, H, W), without prefix tokens; a view wherever possible."""
        if self.is_map:
            return features if self.channel_axis == 1 else features.movedim(-1, 1)
        grid = self.grid_at(features, image_size)
        return self.split(features)[1].transpose(1, 2).unflatten(2, grid)


def read_layout(
    shape: tuple[int, ...],
    image_size: tuple[int, int],
    *,
    channels_last: bool,
    num_prefix_tokens: int,
) -> FeatureLayout:
    """Infer the layout of features from their ``shape``.

    A grid must have the proportions of the image. Where (B, C, H, W) and (B, H, W, C) both fit,
    ``channels_last`` (timm's ``output_fmt``) decides. Two readings of a token sequence are an
    error.

    Args:
        shape: Of the features of one image, B = 1 first.
        image_size: (height, width) of the image, in pixels.
        channels_last: Whether the model prefers (B, H, W, C).
        num_prefix_tokens: Extra tokens of the model; they may be appended late (CaiT) or never.

    Raises:
        ValueError: If no reading fits, or several do.
    """
    readings: list[FeatureLayout] = []
    if len(shape) == 4 and shape[0] == 1:
        readings = [
            FeatureLayout(shape[axis], axis, grid, image_size)
            for axis, grid in ((1, (shape[2], shape[3])), (-1, (shape[1], shape[2])))
            if _is_alike(grid, image_size)
        ]
        preferred = -1 if channels_last else 1
        readings.sort(key=lambda reading: reading.channel_axis != preferred)
        readings = readings[:1]
    elif len(shape) == 3 and shape[0] == 1:
        readings = [
            FeatureLayout(shape[2], -1, grid, image_size, prefix, is_map=False)
            for prefix in sorted({0, num_prefix_tokens})
            for grid in _rectangles(shape[1] - prefix)
            if _is_alike(grid, image_size)
        ]
    if len(readings) == 1:
        return readings[0]
    reason = 'fit several layouts' if readings else 'are neither a map nor a token grid'
    raise ValueError(
        f'features of shape {tuple(shape)} for an image of {image_size[0]}×{image_size[1]} pixels, '
        f'which {reason}'
    )


def fitting_blocks(grid: tuple[int, int], image_size: tuple[int, int]) -> list[int]:
    """Sides in pixels of the square blocks that tile an image and consist of whole features."""
    return [
        side
        for side in range(1, min(image_size) + 1)
        if all(
            size % side == 0 and cells % (size // side) == 0
            for size, cells in zip(image_size, grid, strict=True)
        )
    ]


def _rectangles(num_cells: int) -> list[tuple[int, int]]:
    """Every grid of ``num_cells`` cells."""
    return [(h, num_cells // h) for h in range(1, num_cells + 1) if num_cells % h == 0]


def _is_alike(grid: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of an image, within one cell of rounding."""
    (h, w), (height, width) = grid, image_size
    if height == width:
        return h == w
    return abs(h * width - w * height) <= max(height, width)


@dataclass(frozen=True)
class Geometry:
    """The shapes of one forward pass: of the output, and of modules by name."""

    model: nn.Module
    image_size: tuple[int, int]
    output_shape: Shape
    module_shapes: dict[str, list[Shape]]

    def output(self) -> FeatureLayout:
        """Layout of what the model returns.

        Raises:
            ValueError: If that is not a feature map with a whole stride, or a single position.
        """
        layout = self._read('the model', self.output_shape)
        if layout.grid == (1, 1):
            raise ValueError(
                f'{type(self.model).__name__} pools an image of {_by(self.image_size)} pixels into '
                'one position: no decoder can reconstruct its pixels'
            )
        return layout

    def at(self, name: str) -> FeatureLayout:
        """Layout of what the module ``name`` returns.

        Raises:
            ValueError: If the module does not run exactly once, or returns no features with a
                whole stride.
        """
        shapes = self.module_shapes[name]
        if len(shapes) != 1:
            raise ValueError(
                f'{name!r} of {type(self.model).__name__} runs {len(shapes)} times in one pass; '
                'a mask token needs a module that runs once'
            )
        return self._read(f'{name!r}', shapes[0])

    def _read(self, source: str, shape: Shape) -> FeatureLayout:
        try:
            if shape is None:
                raise ValueError('something other than one tensor')
            layout = read_layout(
                shape,
                self.image_size,
                channels_last=getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC',
                num_prefix_tokens=num_prefix_tokens(self.model),
            )
            if layout.stride is None:
                raise ValueError(
                    f'{_by(layout.grid)} features of {_by(self.image_size)} pixels, not a '
                    'whole number of pixels each: neither mask blocks nor a decoder can match them'
                )
        except ValueError as error:
            raise ValueError(f'{type(self.model).__name__}: {source} returns {error}') from error
        return layout


def num_prefix_tokens(model: nn.Module) -> int:
    """Tokens before those of the patches, as the model says; one if it is not timm's and silent."""
    return getattr(model, 'num_prefix_tokens', 0 if hasattr(model, 'pretrained_cfg') else 1)


def find_output(model: nn.Module, shapes: Sequence[ImageShape]) -> str | None:
    """The module whose output are the features of a network of any origin.

    Returns:
        None if the network returns a feature map itself, else the last module that does.

    Raises:
        ValueError: If no module returns one.
    """
    try:
        trace_first_fit(model, shapes, {})
    except ValueError:
        for shape in shapes:
            if maps := feature_maps(model, shape):
                return [*maps][-1]
        raise
    return None


def feature_maps(model: nn.Module, image_shape: ImageShape) -> dict[str, FeatureLayout]:
    """The modules that run once and return a feature map, in the order in which they return."""
    modules = {name: module for name, module in model.named_modules() if name}
    try:
        _, shapes = trace_shapes(model, image_shape, modules.values())
    except Exception:  # it takes no such image
        return {}
    names = {module: name for name, module in modules.items()}
    returned = {names[module]: records for module, records in shapes.items()}
    geometry, found = Geometry(model, image_shape[1:], None, returned), {}
    for name in returned:
        try:
            layout = geometry.at(name)
        except ValueError:
            continue
        if layout.grid != (1, 1):
            found[name] = layout
    return found


def trace_first_fit(
    model: nn.Module,
    shapes: Sequence[ImageShape],
    modules: Mapping[str, nn.Module],
    output: str | None = None,
) -> Geometry:
    """``trace_geometry`` with the first image shape that gives every layout.

    ``output`` names the one of the ``modules`` whose output is taken for that of the model.

    Raises:
        ValueError: For the last shape, if none does.
    """
    reason = ValueError('give at least one image shape')
    for shape in shapes:
        try:
            geometry = trace_geometry(model, shape, modules)
            if output is not None:
                last = geometry.module_shapes[output]
                geometry = replace(geometry, output_shape=last[0] if len(last) == 1 else None)
            for name in modules:
                geometry.at(name)
            geometry.output()
        except ValueError as error:
            reason = error
        else:
            return geometry
    raise reason


def trace_geometry(
    model: nn.Module, image_shape: ImageShape, modules: Mapping[str, nn.Module]
) -> Geometry:
    """Run ``model`` once on a blank image and record the output shapes of ``modules`` by name.

    Raises:
        ValueError: If the model takes no such image.
    """
    blocks = {name: last_block(module) for name, module in modules.items()}
    try:
        output, shapes = trace_shapes(model, image_shape, blocks.values())
    except Exception as error:
        raise ValueError(
            f'{type(model).__name__} takes no image of {image_shape[0]} channels and '
            f'{_by(image_shape[1:])} pixels: {error}'
        ) from error
    by_name = {name: shapes[block] for name, block in blocks.items()}
    return Geometry(model, image_shape[1:], output, by_name)


def trace_shapes(
    model: nn.Module, image_shape: tuple[int, int, int], modules: Iterable[nn.Module]
) -> tuple[Shape, dict[nn.Module, list[Shape]]]:
    """Shapes of the outputs of ``model`` and of its ``modules`` for one blank image.

    The pass runs on the meta device, where tensors have a shape and no values: it costs no time and
    leaves BatchNorm statistics alone. A model that needs real values gets them.

    Args:
        model: Any model that takes a batch of images.
        image_shape: (C, H, W) of the image.
        modules: Parts of the model. One that runs twice has two shapes, one that does not run none.

    Raises:
        Exception: Of the model, if it cannot take such an image.
    """
    shapes: dict[nn.Module, list[Shape]] = {module: [] for module in modules}

    def record(module: nn.Module, _inputs: tuple, output: object) -> None:
        shapes[module] = [*shapes.pop(module), _shape(output)]  # those that return last come last

    handles = [module.register_forward_hook(record) for module in shapes]
    parameter = next(model.parameters())
    blank = torch.zeros(1, *image_shape, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _evaluating(model):
            try:
                output = _run_on_meta(model, blank)
            # The exception of a model without meta support can be of any type.
            except Exception:
                shapes.update({module: [] for module in shapes})
                output = model(blank)
            return _shape(output), shapes
    finally:
        for handle in handles:
            handle.remove()


def _run_on_meta(model: nn.Module, blank: Tensor) -> object:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors = {name: tensor.to('meta') for name, tensor in tensors.items()}
    return functional_call(model, tensors, (blank.to('meta'),))


def _shape(output: object) -> Shape:
    return tuple(output.shape) if isinstance(output, Tensor) else None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Context manager for evaluation mode; restores the mode of every module."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        # LeViT and others drop their evaluation cache when they switch to training mode.
        model.train()
        for module, mode in modes.items():
            module.training = mode


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]}×{size[1]}'
