"""Which timm model a checkpoint holds, told from its config or from the shapes of its weights.

The text of a config is parsed as literals and never run.
"""

import ast
import re
from collections.abc import Mapping
from math import isqrt
from typing import Any, cast

from torch import Tensor

from a2mim.weights.names import Backbone

Recipe = tuple[str, dict[str, Any]]

# Options of TimmBackbone that are not timm's, or would fetch other weights.
NOT_FOR_TIMM = (
    'type',
    'model_name',
    'mask_after',
    'mask_token',
    'grad_checkpointing',
    'init_cfg',
    'pretrained',
    'checkpoint_path',
)
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
    options = {key: value for key, value in backbone.items() if key not in NOT_FOR_TIMM}
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


def embedded_values(content: Mapping) -> dict[str, Any] | None:
    """``literal_config`` of the text that a checkpoint of ours carries; None if there is none."""
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    return literal_config(text) if isinstance(text, str) else None


def literal_config(text: str) -> dict[str, Any] | None:
    """What the text of a config assigns, name by name; None if it is no written config.

    mmengine writes a config as assignments of literals and ``dict(...)``. Any other Python file,
    such as a script in the same folder, is none.
    """
    try:
        return dict(map(_assignment, ast.parse(text).body))
    except (SyntaxError, ValueError, TypeError, AttributeError):
        return None


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
