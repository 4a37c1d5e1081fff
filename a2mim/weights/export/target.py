"""What a target of an export does, and how a written file is judged."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.layers import to_2tuple
from torch import Tensor, nn

from a2mim.weights.fit import LoadReport, compare
from a2mim.weights.names import Rules, Trunk, find_trunk
from a2mim.weights.recipe import find_recipe
from a2mim.weights.safe_load import load_file

# [source]
# What is exported: a timm model that a checkpoint fills completely.


@dataclass(frozen=True)
class Source:
    """A trained timm model and how timm builds it.

    Attributes:
        path: File that it came from.
        name: Of the model in timm.
        options: For ``timm.create_model`` beside the name; always with ``num_classes``.
        model: With all of its weights from the file, in evaluation mode.
    """

    path: Path
    name: str
    options: dict[str, object]
    model: nn.Module

    @property
    def num_classes(self) -> int:
        """Classes of its classifier, 0 for a trunk alone."""
        return self.options['num_classes']

    @property
    def base_name(self) -> str:
        """Its name without the tag that says what it was trained on."""
        return self.name.split('.')[0]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that the model is made for."""
        size = self.options.get('img_size') or self.model.pretrained_cfg['input_size'][-2:]
        return (self.options.get('in_chans') or 3, *to_2tuple(size))

    def trunk_state(self) -> dict[str, Tensor]:
        """Its weights without those of the classifier."""
        starts = tuple(f'{name}.' for name in classifier_names(self.model))
        state = self.model.state_dict()
        return {key: tensor for key, tensor in state.items() if not key.startswith(starts)}

    def rebuild(self, global_pool: str | None = None) -> nn.Module:
        """The same trunk without a classifier and with another pooling; None: the family's own."""
        options = {k: v for k, v in self.options.items() if k != 'global_pool'}
        options = {**options, 'num_classes': 0, 'global_pool': global_pool}
        model = timm.create_model(self.name, **options)
        model.load_state_dict(self.trunk_state())
        return model.eval()

    @torch.no_grad()
    def final_map(self, image: Tensor) -> Tensor:
        """The last feature map, (B, C, h, w), behind the final norm where the trunk has one."""
        if not hasattr(self.model, 'patch_embed'):
            return self.rebuild(global_pool='')(image)
        tokens = self.model.forward_features(image)[:, self.model.num_prefix_tokens :]
        return tokens.transpose(1, 2).unflatten(2, self.model.patch_embed.grid_size)

    def call(self, **changes: object) -> str:
        """``timm.create_model(…)`` for this model, to paste; ``changes`` are more arguments."""
        given = {**self.options, **changes}
        arguments = ''.join(f', {k}={v!r}' for k, v in given.items() if v is not None)
        return f'timm.create_model({self.name!r}{arguments})'


def read_source(path: Path, name: str | None, options: Mapping[str, object]) -> Source:
    """Build the timm model of a checkpoint and fill it.

    Args:
        path: Any file in which ``find_trunk`` finds a trunk.
        name: Of the model in timm; None: what the checkpoint says or its shapes tell.
        options: For timm, beside those that the checkpoint knows.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, does not tell its model, timm has no such model, or
            the checkpoint does not fill it completely.
    """
    content = load_file(path)
    trunk = find_trunk(content)
    known = None if name else find_recipe(content, trunk)
    if not name and known is None:
        raise ValueError(f'{path} does not tell which timm model it holds; add --model NAME')
    name, known_options = known or (name, {})
    if not timm.is_model(name):
        raise ValueError(
            f'timm {timm.__version__} has no model {name!r}; timm.list_models() has all names'
        )
    complete = _complete_options(name, {**known_options, **options}, trunk)
    model = timm.create_model(name, **complete)
    report = compare(model, trunk.state)
    if report.rate < 1 or report.mismatched:
        raise ValueError(
            f'{path} is not the whole trunk of {name}, nothing was exported: {report}. Is the '
            'file complete, and are --model and --model-options those of the training?'
        )
    model.load_state_dict({key: trunk.state[key] for key in report.matched}, strict=False)
    return Source(path, name, complete, model.eval())


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Modules of a timm model that are its classifier."""
    names = model.pretrained_cfg.get('classifier') or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _complete_options(name: str, options: dict[str, object], trunk: Trunk) -> dict[str, object]:
    """Add number of classes and pooling: a trunk without a classifier is not pooled."""
    options = {key: value for key, value in options.items() if key != 'num_classes'}
    with torch.device('meta'):
        names = classifier_names(timm.create_model(name, **options))
    weight = next((trunk.state[k] for n in names if (k := f'{n}.weight') in trunk.state), None)
    if weight is not None:
        return {'num_classes': len(weight), **options}
    # The norm behind the mean over patches is the trace of a classifier that was taken away.
    pool = {} if 'fc_norm.weight' in trunk.state else {'global_pool': ''}
    return {'num_classes': 0, **pool, **options}


# Largest difference of features, as a share of the largest of ours: float32 in another order.
TOLERANCE = 1e-4
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Check:
    """What came back from a written file.

    Attributes:
        library: That read it, or whose list of names it was held against, with its version.
        report: What became of every tensor; None for a graph, which has no names.
        ours, theirs: Features of the same images; both None where the library cannot be imported.
    """

    library: str
    report: LoadReport | None
    ours: Tensor | None = None
    theirs: Tensor | None = None

    @property
    def difference(self) -> float:
        """Largest difference of two features."""
        return float((self.ours - self.theirs).abs().max())

    @property
    def scale(self) -> float:
        """Largest of our features."""
        return float(self.ours.abs().max())

    def verify(self) -> None:
        """Refuse anything but the whole trunk with the same features.

        Raises:
            ValueError: If a tensor is missing, left over or of another shape, or features differ.
        """
        if self.report is not None and (self.report.rate < 1 or self.report.mismatched):
            raise ValueError(f'{self.library} does not take the whole trunk: {self.report}')
        if self.ours is None:
            return
        if self.ours.shape != self.theirs.shape:
            raise ValueError(
                f'{self.library} returns features {tuple(self.theirs.shape)} where ours are '
                f'{tuple(self.ours.shape)}'
            )
        # Written so that nan fails too.
        if not self.difference <= TOLERANCE * self.scale:
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
        if self.ours is None:
            lines.append('NOT loaded back, no features compared: the library is not here to import')
        else:
            lines.append(
                f'{self.library}: features {tuple(self.theirs.shape)}, largest difference '
                f'{self.difference:.2g} where the largest feature is {self.scale:.3g} '
                f'(allowed: {TOLERANCE:g} of it)'
            )
        return '\n'.join(lines)


class Target(ABC):
    """Writes a trunk for another library, and reads it there.

    Attributes:
        suffixes: Of a path; the empty one stands for a folder.
    """

    suffixes: tuple[str, ...]

    def problem(self, source: Source) -> str | None:
        """Why the library has no model for this trunk; None if it has one."""
        return None

    @abstractmethod
    def write(self, source: Source, path: Path) -> None:
        """Write the trunk to ``path``, which does not exist."""

    @abstractmethod
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Read ``path`` in the library and compare features of ``image``, (B, C, H, W)."""

    @abstractmethod
    def usage(self, source: Source, path: Path) -> tuple[str, ...]:
        """The lines that use ``path``, two of them where two will do."""


def compare_shapes(expected: Shapes, state: Mapping[str, Tensor]) -> LoadReport:
    """What loading ``state`` into a model of these names and shapes would do."""
    common = [key for key in expected if key in state]
    shapes = {key: tuple(state[key].shape) for key in common}
    differ = [key for key in common if shapes[key] != tuple(expected[key])]
    return LoadReport(
        matched=[key for key in common if key not in differ],
        missing=[key for key in expected if key not in state],
        unexpected=[key for key in state if key not in expected],
        mismatched=[(key, expected[key], shapes[key]) for key in differ],
    )


def shapes_of(model: nn.Module) -> Shapes:
    """Names and shapes of the tensors that a model has to load.

    Indices of relative positions are computed from the grid.
    """
    return {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.endswith('relative_position_index')
    }


def rename(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Apply every rule, a pattern and its replacement, to every name, in order."""
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    return renamed


# [photograph]
# A real photograph, as a model wants it: features of noise would hide many a difference.
#
# Axes: B batch, C channels, (H, W) pixels.


DEFAULT = 'chelsea.png'


def read_photograph(source: Source, path: Path | None = None) -> Tensor:
    """An image through timm's evaluation transform for this model.

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
        with Image.open(path) as file:
            image = file.convert('RGB')
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f'{path} is no image that Pillow reads ({error})') from error
    channels, height, width = source.input_shape
    config = resolve_data_config({'input_size': (3, height, width)}, model=source.model)
    for key in ('mean', 'std'):
        config[key] = tuple(config[key][i % len(config[key])] for i in range(3))
    pixels = create_transform(**config, is_training=False)(image)  # (3, H, W)
    # Another number of channels takes red, green and blue in turn.
    return pixels[torch.arange(channels) % 3].unsqueeze(0)
