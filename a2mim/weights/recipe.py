"""The config that a file carries: parsed as literals, checked, and built; and its timm model.

A checkpoint, a published file and a failed step hold a config as text, which may come from a
stranger. Three functions, ``build_model``, ``build_wrapper`` and ``create_timm_model``, build from
it; nothing else may: mmengine imports and calls any dotted name in a ``type``. They accept
registered types alone, fetch no initial weights, and stop a model that outgrows its file.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isqrt
from typing import Any, cast

import timm
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope, Registry
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from a2mim.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from a2mim.weights.config_files import refuse_oversized
from a2mim.weights.names import Backbone

Recipe = tuple[str, dict[str, Any]]

# Initial weights: those of the file replace them, and nothing else is read or fetched.
INITIALISERS = (
    'init_cfg',
    'pretrained',
    'checkpoint_path',
    'pretrained_cfg',
    'pretrained_cfg_overlay',
    'cache_dir',
)
# Options of TimmBackbone that are not timm's.
RUNS_A_FILE = 'OwnBackbone'  # of models/timm_backbone.py
NOT_FOR_TIMM = ('type', 'model_name', 'mask_after', 'mask_token', 'grad_checkpointing')
MOST_TEXT = 1_000_000  # characters of a config; 21,000 names of classes take half of it
MOST_COUNT = 100_000  # of anything that a model has: classes, pixels of a side, blocks
# A model may exceed the weights in its file by a classifier or a decoder, and no more.
SPARE_TENSORS, SPARE_NUMBERS = 500, 100_000_000
# Blocks of the four stages.
RESNETS = {
    'resnet50': (3, 4, 6, 3),
    'resnet101': (3, 4, 23, 3),
    'resnet152': (3, 8, 36, 3),
    'resnet200': (3, 24, 36, 3),
}
# Width of the first stage, blocks of the third.
CONVNEXTS = {'convnext_tiny': (96, 9), 'convnext_small': (96, 27), 'convnext_base': (128, 27)}


def find_recipe(content: Mapping, found: Backbone) -> Recipe | None:
    """Name and options for ``timm.create_model``; None where the checkpoint does not tell."""
    model = (embedded_values(content) or {}).get('model')
    backbone = model.get('backbone') if isinstance(model, dict) else None
    if not isinstance(backbone, dict) or not isinstance(backbone.get('model_name'), str):
        return read_shapes(found.state)
    dropped = (*NOT_FOR_TIMM, *INITIALISERS)
    options = {key: value for key, value in backbone.items() if key not in dropped}
    return backbone['model_name'], options


def read_shapes(state: Mapping[str, Tensor]) -> Recipe | None:
    """Model and options of a backbone of the paper, in timm's names."""
    if 'layer1.0.conv3.weight' in state:
        models, size = RESNETS, tuple(_count(state, rf'layer{i}\.(\d+)\.') for i in range(1, 5))
    elif 'stem.0.weight' in state:
        blocks = _count(state, r'stages\.2\.blocks\.(\d+)\.')
        models, size = CONVNEXTS, (len(state['stem.0.weight']), blocks)
    elif 'blocks.0.attn.relative_position_bias_table' in state and 'pos_embed' in state:
        return 'beit_base_patch16_224', _beit_options(state)
    else:
        return None
    return next(((name, {}) for name, known in models.items() if known == size), None)


def _beit_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    _, num_tokens, width = state['pos_embed'].shape
    patch_size = state['patch_embed.proj.weight'].shape[-1]
    return dict(
        img_size=isqrt(num_tokens - 1) * patch_size,
        patch_size=patch_size,
        embed_dim=width,
        depth=_count(state, r'blocks\.(\d+)\.'),
        num_heads=state['blocks.0.attn.relative_position_bias_table'].shape[1],
        mlp_ratio=len(state['blocks.0.mlp.fc1.weight']) / width,
        qkv_bias='blocks.0.attn.q_bias' in state,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=0.1 if 'blocks.0.gamma_1' in state else None,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand in the group of ``pattern`` at the start of the keys."""
    return len({match[1] for match in (re.match(pattern, key) for key in state) if match})


def build_model(config: Mapping, held: Mapping[str, Tensor], where: object) -> nn.Module:
    """Build the model that a file describes, with random weights.

    Args:
        config: The entry ``model`` of the file's config, or an entry of it.
        held: Tensors of the file, which bound the size of the model.
        where: The file, for messages.

    Raises:
        ValueError: If it asks for anything but registered types of this package, or for a model
            that is larger than the file.
    """
    checked = without_initialisers(config)
    _check(checked, (MODELS,), where)
    with DefaultScope.overwrite_default_scope('a2mim'), _limited(held, where):
        return MODELS.build(checked)


def build_wrapper(model: nn.Module, config: Mapping, where: object) -> OptimWrapper:
    """Build the optimiser, in its wrapper, that a file describes for ``model``.

    Raises:
        ValueError: If it asks for anything but registered types.
    """
    _check(config, (OPTIM_WRAPPERS, OPTIMIZERS, OPTIM_WRAPPER_CONSTRUCTORS), where)
    with DefaultScope.overwrite_default_scope('a2mim'):
        return build_optim_wrapper(model, dict(config))


def create_timm_model(
    recipe: Recipe, held: Mapping[str, Tensor], where: object, **changes: object
) -> nn.Module:
    """``timm.create_model`` for what ``find_recipe`` found, with ``changes`` of its options.

    Raises:
        ValueError: If timm has no model of that name, or the model is larger than the file.
    """
    name, options = recipe[0], without_initialisers({**recipe[1], **changes})
    _check(dict(model_name=name, options=options), (MODELS,), where)
    with _limited(held, where):
        return timm.create_model(name, **options)


def without_initialisers(node: Any) -> Any:
    """A copy of a config without the options that read or fetch initial weights."""
    if isinstance(node, Mapping):
        kept = {key: value for key, value in node.items() if key not in INITIALISERS}
        return {key: without_initialisers(value) for key, value in kept.items()}
    if isinstance(node, list | tuple):
        return [without_initialisers(item) for item in node]
    return node


def _check(config: Mapping, registries: tuple[Registry, ...], where: object) -> None:
    """Refuse what ``registries`` do not hold; optimisers may be those of torch, which mmengine has.

    Raises:
        ValueError: If so.
    """
    allowed: set[str] = set()
    for registry in registries:
        registry.import_from_location()
        allowed |= registry.module_dict.keys()
        if registry is not MODELS and registry.parent is not None:
            allowed |= registry.parent.module_dict.keys()
    allowed |= {'norm', 'value'}  # of clip_grad
    for key, value in _entries_below(config):
        name = str(value).removeprefix('a2mim.')
        if key in ('type', 'constructor') and name not in allowed:
            kind = 'model of this package' if MODELS in registries else 'registered optimiser'
            raise ValueError(f'{where}: its config asks for {value!r}, which is no {kind}: refused')
        if key in ('type', 'constructor') and name == RUNS_A_FILE:
            raise ValueError(
                f'{where}: its network is made by a Python file, which is not run on the word of a '
                'checkpoint: give its config'
            )
        if key == '_scope_':
            raise ValueError(f'{where}: its config asks for the scope {value!r}: refused')
        if key == 'model_name' and not timm.is_model(str(value)):
            raise ValueError(
                f'{where}: its config asks for {value!r}, which is no timm model of '
                f'timm {timm.__version__}: refused'
            )
        if MODELS in registries and isinstance(value, int) and abs(value) > MOST_COUNT:
            raise ValueError(
                f'{where}: its config asks for {key}={value}, at most {MOST_COUNT:,}: refused'
            )


def _entries_below(node: object, key: str = '') -> Iterator[tuple[str, object]]:
    """Every entry below ``node`` with its key; the items of a list have the key of the list."""
    items = [(key, item) for item in node] if isinstance(node, list | tuple) else []
    items = [*node.items()] if isinstance(node, Mapping) else items
    for name, item in items:
        yield name, item
        yield from _entries_below(item, name)


@contextmanager
def _limited(held: Mapping[str, Tensor], where: object) -> Iterator[None]:
    """Stop the construction of a model once it has many more weights than its file.

    The hook is called before a layer fills its weights, so before their memory is taken.

    Raises:
        ValueError: If so.
    """
    tensors = 2 * len(held) + SPARE_TENSORS
    numbers = 2 * sum(tensor.numel() for tensor in held.values()) + SPARE_NUMBERS
    seen = [0, 0]

    def count(_module: nn.Module, _name: str, parameter: Tensor | None) -> None:
        seen[0] += 1
        seen[1] += 0 if parameter is None else parameter.numel()
        if seen[0] > tensors or seen[1] > numbers:
            raise ValueError(
                f'{where}: its config asks for a model of more than {seen[0] - 1} tensors and '
                f'{seen[1]:,} numbers, but the file holds {len(held)} tensors: refused'
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch has no memory for it, for example
        reason = (str(error).strip() or 'no memory').splitlines()[0]
        raise ValueError(
            f'{where}: its config asks for a model that is not built ({reason}): refused'
        ) from error
    finally:
        handle.remove()


def embedded_values(content: Mapping) -> dict[str, Any] | None:
    """``literal_config`` of the text that a checkpoint of ours carries; None if there is none.

    Raises:
        ValueError: If the text is too long or too deep to be a config.
    """
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    return literal_config(text) if isinstance(text, str) else None


def literal_config(text: str) -> dict[str, Any] | None:
    """What the text of a config assigns, name by name; None if it is no written config.

    mmengine writes a config as assignments of literals and ``dict(...)``. Any other Python file,
    such as a script in the same folder, is none.

    Raises:
        ValueError: If it is too long or too deep to be a config.
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f'a config of {len(text):,} characters, at most {MOST_TEXT:,}: refused')
    try:
        values = dict(map(_assignment, ast.parse(text).body))
    except (RecursionError, MemoryError) as error:
        raise ValueError('a config that is nested too deeply: refused') from error
    except (SyntaxError, ValueError, TypeError, AttributeError):
        return None
    refuse_oversized(values, 'a config')
    return values


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, _value(statement.value)
    raise ValueError(f'{ast.unparse(statement)} assigns nothing to a name')


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        # Keys that are no names, such as 'a.b', stand in a dict within the call.
        named = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        return {key: value for arg in node.args for key, value in _value(arg).items()} | named
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        # Without a key, as in {**other}, this is a ValueError too.
        return {ast.literal_eval(cast(ast.expr, key)): _value(value) for key, value in pairs}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Name):  # inf, nan or a class
        return node.id
    return ast.literal_eval(node)
