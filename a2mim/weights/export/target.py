"""What is exported, what a target does with it, and how the written file is checked.

Axes: B batch, C channels, (H, W) pixels, (h, w) features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.layers.helpers import to_2tuple
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from a2mim.interfaces import TimmNetwork
from a2mim.weights.fit import LoadReport, Policy, Shapes, classifier_prefixes, load_backbone
from a2mim.weights.load_model import class_names, embedded_config, input_spec
from a2mim.weights.names import find_backbone, tensors_in
from a2mim.weights.recipe import Recipe, create_timm_model, find_recipe
from a2mim.weights.safe_load import load_file

# Largest difference of features, as a share of the largest of ours: float32 in another order.
TOLERANCE = 1e-4
WHOLE = Policy(
    advice='Nothing was exported. Is the file complete, and are --model and --model-options those '
    'of the training?'
)
DEFAULT = 'chelsea.png'
# Versions that libraries need, and do not ask for.
KNOWN_BOUNDS = {'mmpretrain': 'MMPretrain 1 needs transformers below 5'}
# What timm says of a network, whatever its weights; the rest is about its own.
OF_NETWORK = ('architecture', 'fixed_input_size', 'first_conv', 'classifier')
OF_IMAGES = ('input_size', 'pool_size', 'interpolation', 'crop_pct', 'mean', 'std')


@dataclass(frozen=True)
class Source:
    """A trained timm network and how timm builds it.

    Attributes:
        path: File that it came from.
        name: Of the model in timm.
        options: For ``timm.create_model`` beside the name; always with ``num_classes``.
        model: With all of its weights from the file, in evaluation mode; its ``pretrained_cfg``
            has size, mean and deviation of the images that these were trained on.
        method: Type of the model that was trained; None where the file does not tell.
        scale: How pixel values became [0, 255] in training; None where the file does not tell.
        classes: Names of the classes, where the file tells them.
    """

    path: Path
    name: str
    options: dict[str, Any]
    model: TimmNetwork
    method: str | None = None
    scale: object = None
    classes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Classes of its classifier, 0 for a backbone alone."""
        return self.options['num_classes']

    @property
    def base_name(self) -> str:
        """Its name without the tag that says what it was trained on."""
        return self.name.split('.')[0]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that the model is made for."""
        size = self.options.get('img_size') or self.model.pretrained_cfg['input_size'][-2:]
        height, width = cast(tuple[int, int], to_2tuple(size))
        return self.options.get('in_chans') or 3, height, width

    def normalization(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixel values in [0, 255]."""
        known = self.model.pretrained_cfg
        mean, std = ([round(255 * x, 3) for x in known[key]] for key in ('mean', 'std'))
        return mean, std

    def images(self) -> str:
        """The images that the network wants, in words."""
        channels, height, width = self.input_shape
        mean, std = self.normalization()
        rule = f', by scale={self.scale!r}' if self.scale not in (None, 'dtype') else ''
        told = '' if self.scale else " (timm's own: the file does not tell)"
        return (
            f'{channels}×{height}×{width}, pixels from 0 to 255{rule}, minus {mean}, divided by '
            f'{std}{told}'
        )

    def backbone_state(self) -> dict[str, Tensor]:
        """Its weights without those of the classifier."""
        starts, state = classifier_prefixes(self.model), self.model.state_dict()
        return {key: tensor for key, tensor in state.items() if not key.startswith(starts)}

    def create(self, **changes: object) -> nn.Module:
        """The same network with random weights; ``changes`` are more options."""
        held = self.model.state_dict()
        return create_timm_model((self.name, self.options), held, self.path, **changes)

    def rebuild(self, global_pool: str | None = None) -> nn.Module:
        """The same backbone without a classifier, with another pooling; None: the family's own."""
        model = self.create(num_classes=0, global_pool=global_pool)
        model.load_state_dict(self.backbone_state())
        return model.eval()

    @torch.no_grad()
    def silent_options(self, carried: Collection[str]) -> list[str]:
        """Options not ``carried`` that change the features and no weight, as KEY=VALUE."""
        image = torch.randn(1, *self.input_shape, generator=torch.Generator().manual_seed(0))
        state, found = self.backbone_state(), []
        for key in self.options.keys() - {'num_classes', 'global_pool', *carried}:
            pair = [
                self.create(num_classes=0, global_pool='', **change).eval()
                for change in ({}, {key: None})
            ]
            try:
                for network in pair:
                    network.load_state_dict(state)
                ours, theirs = (network(image) for network in pair)
            except (RuntimeError, AssertionError):  # other shapes, which are compared by name
                continue
            if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
                found.append(f'{key}={self.options[key]!r}')
        return sorted(found)

    @torch.no_grad()
    def final_map(self, image: Tensor) -> Tensor:
        """The last feature map, (B, C, h, w), after the final norm where the backbone has one."""
        model = self.model
        if not isinstance(model, Beit | VisionTransformer):
            return self.rebuild(global_pool='')(image)
        tokens = model.forward_features(image)[:, model.num_prefix_tokens :]
        grid: Any = model.patch_embed.grid_size
        return tokens.transpose(1, 2).unflatten(2, grid)

    def call(self, **changes: object) -> str:
        """``timm.create_model(…)`` for this model, to paste; ``changes`` are more arguments."""
        given = {**self.options, **changes}
        arguments = ''.join(f', {k}={v!r}' for k, v in given.items() if v is not None)
        return f'timm.create_model({self.name!r}{arguments})'


def read_source(path: Path, name: str | None, options: Mapping[str, object]) -> Source:
    """Build the timm network of a checkpoint and fill it.

    Args:
        path: Any file in which ``find_backbone`` finds a backbone.
        name: Of the model in timm; None: what the checkpoint says or its shapes tell.
        options: For timm, beside those that the checkpoint knows.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, does not tell its model, timm has no such model, or
            the checkpoint does not fill it completely.
    """
    content = load_file(path)
    backbone = find_backbone(content)
    known = (name, {}) if name else find_recipe(content, backbone)
    if known is None:
        raise ValueError(f'{path} does not tell which timm model it holds; add --model NAME')
    name, known_options = known
    if not timm.is_model(name):
        raise ValueError(
            f'timm {timm.__version__} has no model {name!r}; timm.list_models() has all names'
        )
    given = {key: v for key, v in {**known_options, **options}.items() if v is not None}
    complete = _complete_options((name, given), content, path)
    model = create_timm_model((name, complete), backbone.state, path)
    load_backbone(model, content, path, WHOLE)
    network, config = cast(TimmNetwork, model.eval()), embedded_config(content) or {}
    prepared = config.get('model', {}).get('data_preprocessor', {})
    network.pretrained_cfg = _about_images(network.pretrained_cfg, config, prepared)
    return Source(
        path,
        name,
        complete,
        network,
        config.get('model', {}).get('type'),
        prepared.get('scale', 'dtype') if prepared else None,
        class_names(content),
    )


def _about_images(
    known: Mapping[str, Any], config: Mapping[str, Any], prepared: Mapping[str, Any]
) -> dict[str, Any]:
    """What timm calls ``pretrained_cfg``: of the images of the run, else of timm's own weights."""
    kept = OF_NETWORK if prepared else (*OF_NETWORK, *OF_IMAGES)
    about = {key: known[key] for key in kept if key in known}
    if prepared:
        mean, std = (tuple(value / 255 for value in prepared[key]) for key in ('mean', 'std'))
        size = (len(mean), *input_spec(config).image_size)
        # As ``inference.fit_image`` prepares an image.
        about |= dict(input_size=size, interpolation='bicubic', crop_pct=1.0, mean=mean, std=std)
    return about


def _complete_options(recipe: Recipe, content: Mapping, path: Path) -> dict[str, Any]:
    """Add number of classes and pooling: a backbone without a classifier is not pooled."""
    options = {key: value for key, value in recipe[1].items() if key != 'num_classes'}
    # timm pools by the class token, also where there is none.
    unpooled = {'global_pool': ''} if options.get('class_token') is False else {}
    with torch.device('meta'):
        model = create_timm_model((recipe[0], {**unpooled, **options}), tensors_in(content), path)
    state, starts = find_backbone(content, model.state_dict()).state, classifier_prefixes(model)
    weights = [state[k] for start in starts if (k := f'{start}weight') in state]
    if weights:
        return {'num_classes': len(weights[0]), **options}
    # The norm after the mean over patches is the trace of a classifier that was taken away.
    pool = {} if 'fc_norm.weight' in state else {'global_pool': ''}
    return {'num_classes': 0, **pool, **options}


@dataclass(frozen=True)
class Check:
    """What came back from a written file.

    Attributes:
        library: That read it, or whose list of names it was compared with, with its version.
        report: What became of every tensor; None for a graph, which has no names.
        ours, theirs: Features of the same images; empty where the library cannot be used.
        problem: What a library raised that should have read the file, and did not.
    """

    library: str
    report: LoadReport | None
    ours: Tensor = field(default_factory=lambda: torch.empty(0))
    theirs: Tensor = field(default_factory=lambda: torch.empty(0))
    problem: str = ''

    @property
    def difference(self) -> float:
        """Largest difference of two features."""
        return float((self.ours - self.theirs).abs().max())

    @property
    def scale(self) -> float:
        """Largest of our features."""
        return float(self.ours.abs().max())

    def verify(self) -> None:
        """Refuse anything but the whole backbone with the same features.

        Raises:
            ValueError: If a tensor is missing, left over or of another shape, or features differ.
        """
        if self.report is not None and not self.report.complete:
            raise ValueError(f'{self.library} does not take the whole backbone: {self.report}')
        if self.ours.shape != self.theirs.shape:
            raise ValueError(
                f'{self.library} returns features {tuple(self.theirs.shape)} where ours are '
                f'{tuple(self.ours.shape)}'
            )
        # Written so that NaN fails too.
        if self.ours.numel() and not self.difference <= TOLERANCE * self.scale:
            raise ValueError(
                f'{self.library} computes other features: the largest difference is '
                f'{self.difference:.2g}, the largest feature {self.scale:.3g}, and at most '
                f'{TOLERANCE:g} of it are allowed'
            )

    def __str__(self) -> str:
        lines = []
        if self.report is not None:
            number = len(self.report.matched)
            lines.append(f'{self.library}: {number} tensors, {self.report.rate:.0%} match')
        if not self.ours.numel():
            lines.append(f'NOT loaded back, no features compared: {self.problem}')
        else:
            lines.append(
                f'{self.library}: features {tuple(self.theirs.shape)}, largest difference '
                f'{self.difference:.2g} where the largest feature is {self.scale:.3g} '
                f'(allowed: {TOLERANCE:g} of it)'
            )
        return '\n'.join(lines)


class UnreadError(Exception):
    """Another library could not be used to read a file; the message is what it raised."""


@contextmanager
def other_library(name: str) -> Iterator[None]:
    """Within the block, whatever a library raises is an ``UnreadError``.

    Versions that do not go together raise anything, and say nothing about the file.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or '').split('.')[0] == name:
            raise UnreadError('the library is not here to import') from error
        text = (str(error).strip() or 'no message').splitlines()[0]
        bound = f'; {KNOWN_BOUNDS[name]}' if name in KNOWN_BOUNDS else ''
        raise UnreadError(f'{name} raised {type(error).__name__}: {text}{bound}') from error


class Target(ABC):
    """Writes a backbone for another library, and reads it there.

    Attributes:
        suffixes: Of a path; the empty one stands for a folder.
        carried: Options of timm that it knows although no weight shows them; None: all.
    """

    suffixes: tuple[str, ...]
    carried: tuple[str, ...] | None = ('img_size', 'num_heads')

    def problem(self, source: Source) -> str | None:
        """Why the library has no model for this backbone; None if it has one."""
        return None

    @abstractmethod
    def write(self, source: Source, path: Path) -> None:
        """Write the backbone to ``path``, which does not exist."""

    @abstractmethod
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Read ``path`` in the library and compare features of ``image``, (B, C, H, W)."""

    @abstractmethod
    def usage(self, source: Source, path: Path) -> tuple[str, ...]:
        """The lines that use ``path``, two of them where two will do."""


def shapes_of(model: nn.Module) -> Shapes:
    """Names and shapes of the tensors that a model has to load.

    Indices of relative positions are computed from the grid.
    """
    return {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.endswith('relative_position_index')
    }


def read_photograph(source: Source, path: Path | None = None) -> Tensor:
    """A photograph through timm's evaluation transform for this model.

    Features of random noise would hide many differences.

    Args:
        source: Gives size, channels, mean and deviation.
        path: Image file; None: the cat that comes with scikit-image.

    Shape:
        returns: (1, C, H, W).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image.
    """
    path = path or Path(str(resources.files('skimage') / 'data' / DEFAULT))
    try:
        with Image.open(path, formats=('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'TIFF')) as file:
            image = file.convert('RGB')
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f'{path} is no image that Pillow reads ({error})') from error
    channels, height, width = source.input_shape
    config = resolve_data_config({'input_size': (3, height, width)}, model=source.model)
    for key in ('mean', 'std'):
        config[key] = tuple(config[key][i % len(config[key])] for i in range(3))
    transform = cast(Callable[[Image.Image], Tensor], create_transform(**config, is_training=False))
    # Another number of channels takes red, green and blue in turn.
    return transform(image)[torch.arange(channels) % 3].unsqueeze(0)
