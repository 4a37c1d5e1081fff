"""What a timm trunk makes of the grid of an image: at its output, and where a token can go.

Axes: B batch, C channels, (H, W) features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from timm.layers import to_2tuple
from torch import nn

from a2mim.models.backbones.layout import FeatureLayout, read_layout
from a2mim.models.backbones.timm_model import last_block
from a2mim.models.backbones.trace import Shape, trace_shapes

ImageShape = tuple[int, int, int]


def image_shapes(model: nn.Module, timm_kwargs: Mapping) -> list[ImageShape]:
    """(C, height, width) of images that the model is made for, the natural one first.

    A model without a fixed size has a second one, a multiple of 32: EfficientNet-B4 has stride 32
    and is made for 380 pixels, which 32 does not divide.
    """
    channels = timm_kwargs.get('in_chans') or 3
    if timm_kwargs.get('img_size'):
        return [(channels, *to_2tuple(timm_kwargs['img_size']))]
    config = model.pretrained_cfg
    height, width = config['input_size'][-2:]
    shapes = [(channels, height, width)]
    if not config.get('fixed_input_size', False):
        shapes.append((channels, -(-height // 32) * 32, -(-width // 32) * 32))
    return shapes


@dataclass(frozen=True)
class Geometry:
    """Shapes of one forward pass, read as layouts on demand."""

    model: nn.Module
    image_size: tuple[int, int]
    output_shape: Shape
    place_shapes: dict[str, list[Shape]]

    def output(self) -> FeatureLayout:
        """Layout of what the model returns.

        Raises:
            ValueError: If that is no feature map with a whole stride, or a single position.
        """
        layout = self._read('the model', self.output_shape)
        if layout.grid == (1, 1):
            raise ValueError(
                f'{type(self.model).__name__} pools an image of {_by(self.image_size)} pixels into '
                'one position: no decoder can tell its pixels apart'
            )
        return layout

    def at(self, place: str) -> FeatureLayout:
        """Layout of what the module at the path ``place`` returns.

        Raises:
            ValueError: If the module does not run exactly once, or returns no features with a
                whole stride.
        """
        shapes = self.place_shapes[place]
        if len(shapes) != 1:
            raise ValueError(
                f'{place!r} of {type(self.model).__name__} runs {len(shapes)} times in one pass; '
                'a mask token needs a module that runs once'
            )
        return self._read(f'{place!r}', shapes[0])

    def _read(self, place: str, shape: Shape) -> FeatureLayout:
        try:
            if shape is None:
                raise ValueError('something that is not one tensor')
            layout = read_layout(
                shape,
                self.image_size,
                channels_last=getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC',
                num_prefix_tokens=getattr(self.model, 'num_prefix_tokens', 0),
            )
            if layout.stride is None:
                raise ValueError(
                    f'{_by(layout.grid)} features of {_by(self.image_size)} pixels, no whole '
                    'number of pixels each: neither mask blocks nor a decoder can match them'
                )
        except ValueError as error:
            raise ValueError(f'{type(self.model).__name__}: {place} returns {error}') from error
        return layout


def trace_first_fit(
    model: nn.Module, shapes: Sequence[ImageShape], places: Mapping[str, nn.Module]
) -> Geometry:
    """``trace_geometry`` with the first shape that gives output and places a layout.

    Raises:
        ValueError: The last reason, if no shape does.
    """
    for shape in shapes:
        try:
            geometry = trace_geometry(model, shape, places)
            for place in places:
                geometry.at(place)
            geometry.output()
        except ValueError as error:
            reason = error
        else:
            return geometry
    raise reason


def trace_geometry(
    model: nn.Module, image_shape: ImageShape, places: Mapping[str, nn.Module]
) -> Geometry:
    """Run ``model`` once on a blank image and note the shapes at ``places``, modules by path.

    Raises:
        ValueError: If the model takes no such image.
    """
    targets = {path: last_block(module) for path, module in places.items()}
    try:
        output, shapes = trace_shapes(model, image_shape, targets.values())
    except Exception as error:
        raise ValueError(
            f'{type(model).__name__} takes no image of {image_shape[0]} channels and '
            f'{_by(image_shape[1:])} pixels: {error}'
        ) from error
    by_path = {path: shapes[target] for path, target in targets.items()}
    return Geometry(model, image_shape[1:], output, by_path)


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]}×{size[1]}'
