"""Which timm model a trunk belongs to, told from its checkpoint.

Ours carry their config as text, which is parsed and never run; of a published one the shapes tell.
"""

import ast
import re
from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from a2mim.weights.names import Trunk

Recipe = tuple[str, dict[str, object]]

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
    (3, 4, 6, 3): 'resnet50',
    (3, 4, 23, 3): 'resnet101',
    (3, 8, 36, 3): 'resnet152',
    (3, 24, 36, 3): 'resnet200',
}
# Width of the first stage, blocks of the third.
CONVNEXTS = {(96, 9): 'convnext_tiny', (96, 27): 'convnext_small', (128, 27): 'convnext_base'}


def find_recipe(content: Mapping, trunk: Trunk) -> Recipe | None:
    """Name and options for ``timm.create_model``; None where the checkpoint does not tell."""
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    recipe = read_config(text) if isinstance(text, str) else None
    return recipe or read_shapes(trunk.state)


def read_config(text: str) -> Recipe | None:
    """Model and options from the text of a config, as literals; it is not run."""
    try:
        statements = ast.parse(text).body
        values = {
            ast.unparse(statement.targets[0]): statement.value
            for statement in statements
            if isinstance(statement, ast.Assign)
        }
        backbone = _keywords(_keywords(values['model'])['backbone'])
        name = ast.literal_eval(backbone['model_name'])
        options = {k: ast.literal_eval(v) for k, v in backbone.items() if k not in NOT_FOR_TIMM}
    except (SyntaxError, ValueError, KeyError):
        return None
    return name, options


def read_shapes(state: Mapping[str, Tensor]) -> Recipe | None:
    """Model and options of a trunk of the paper, in timm's names."""
    if 'layer1.0.conv3.weight' in state:
        name = RESNETS.get(tuple(_count(state, rf'layer{i}\.(\d+)\.') for i in range(1, 5)))
    elif 'stem.0.weight' in state:
        size = len(state['stem.0.weight']), _count(state, r'stages\.2\.blocks\.(\d+)\.')
        name = CONVNEXTS.get(size)
    elif 'blocks.0.attn.relative_position_bias_table' in state and 'pos_embed' in state:
        return 'beit_base_patch16_224', _beit_options(state)
    else:
        return None
    return None if name is None else (name, {})


def _beit_options(state: Mapping[str, Tensor]) -> dict[str, object]:
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


def _keywords(call: ast.expr) -> dict[str, ast.expr]:
    """The arguments of an expression ``dict(…)``."""
    if not isinstance(call, ast.Call):
        raise ValueError(f'{ast.unparse(call)} is no dict(…)')
    return {keyword.arg: keyword.value for keyword in call.keywords}


# [literal_config]
# The values in a written config, read without running it.


def literal_config(text: str) -> dict[str, object] | None:
    """What the text of a config assigns, name by name; None if it is no written config.

    mmengine writes a config as assignments of literals and ``dict(...)``. Any other Python file,
    such as a script that lies in the same folder, is none.
    """
    try:
        statements = ast.parse(text).body
        return {_name(statement): _value(statement.value) for statement in statements}
    except (SyntaxError, ValueError):
        return None


def _name(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    raise ValueError(f'{ast.unparse(statement)} assigns nothing to a name')


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        # Keys that are no names, such as 'a.b', stand in a dict within the call.
        named = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        return {key: value for arg in node.args for key, value in _value(arg).items()} | named
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Name):  # inf, nan or a class
        return node.id
    return ast.literal_eval(node)
