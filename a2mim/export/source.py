"""What is exported: a timm model that a checkpoint fills completely."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from a2mim.checkpoint import Trunk, compare, find_recipe, find_trunk, load_file


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
