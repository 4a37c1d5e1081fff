"""a2mim: architecture-agnostic masked image modelling for any timm backbone."""

import importlib

from a2mim.version import __version__

# Imported at first use, so that ``import a2mim`` costs nothing.
_LAZY = {
    'ImageClassificationInferencer': 'a2mim.inference',
    'embed': 'a2mim.analysis.vectors',
    'features': 'a2mim.inference',
    'inference_model': 'a2mim.inference',
    'init_model': 'a2mim.inference',
    'list_models': 'a2mim.weights.released',
    'load_model': 'a2mim.weights.load_model',
    'reconstruct': 'a2mim.inference',
}

__all__ = [
    'ImageClassificationInferencer',
    '__version__',
    'embed',
    'features',
    'inference_model',
    'init_model',
    'list_models',
    'load_model',
    'reconstruct',
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
