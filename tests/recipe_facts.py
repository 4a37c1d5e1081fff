"""What a published recipe amounts to, as flat facts, and the golden files that keep them.

python tests/recipe_facts.py     writes tests/data/recipes/ anew; review what changes

A fact is the value of a config (``optim_wrapper.optimizer.lr``), the description of a built
transform (``train.operations``), or a measure of the built model (``built.parameters.backbone``).
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine import Config
from mmengine.registry import init_default_scope
from timm.layers import DropPath
from torch import nn

from a2mim.registry import TRANSFORMS
from recipes import CONFIGS, PUBLISHED, built, groups_of, read

FOLDER = Path(__file__).parent / 'data/recipes'
COMMON = 'every recipe'
SECTIONS = (
    'model',
    'sync_bn',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'auto_scale_lr',
)
# Part of a recipe's name: the golden file of its family; the first that fits.
FAMILIES = {
    'pretrain/a2mim/': 'a2mim',
    'pretrain/simmim/': 'simmim',
    '_rsb_': 'rsb',
    '_spark_': 'spark',
    '_linear_': 'linear_probes',
    'imagenet_per_': 'few_labels',
    '/r50_': 'resnet_finetuning',
    '/r18_': 'resnet_finetuning',
    '/swin_': 'swin_finetuning',
    '': 'vit_finetuning',
}
# Attributes that tell what a built transform does.
SHOWN = {
    'RandomResizedCrop': ('size', 'scale', 'ratio', 'interpolation'),
    'RandomFlip': ('p',),
    'RandomErasing': ('image_size', 'p'),
    'Resize': ('size', 'interpolation'),
    'CenterCrop': ('size',),
}
# Numbers of hooks, which are found by type, wherever they stand.
HOOKS = {
    'LoggerHook': ('interval',),
    'CheckpointHook': ('interval', 'max_keep_ckpts'),
    'ReconstructionHook': ('interval',),
    'WarmupEMAHook': ('momentum', 'warmup_epochs'),
}


def facts(name: str, config: Config, model: nn.Module) -> dict[str, object]:
    """Everything that is known of a recipe and its model, by dotted names, as JSON keeps it."""
    tree = dict(
        expected=expectations(name),
        hooks=hook_numbers(config),
        log_window=config.log_processor.window_size,
        train=data_facts(config.train_dataloader),
        val=data_facts(config.val_dataloader) if config.get('val_dataloader') else None,
        built=model_facts(config, model.train()),
        **{key: config[key] for key in SECTIONS if key in config},
    )
    return json.loads(json.dumps(dict(flat(tree))))


def flat(node: object, path: str = '') -> Iterator[tuple[str, object]]:
    """Leaves by dotted path; a list is one leaf unless it holds dicts or texts."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list | tuple) and any(isinstance(item, dict | str) for item in node):
        items = enumerate(node)
    else:
        yield path, node
        return
    for key, item in items:
        yield from flat(item, f'{path}.{key}' if path else str(key))


def expectations(name: str) -> dict[str, float]:
    """Top-1 that the docstring expects: ``{'after RECIPE': 80.4}``."""
    docstring = ast.get_docstring(ast.parse((CONFIGS / f'{name}.py').read_text('utf-8')))
    pattern = r'^Expect ([\d.]+) top-1 (.*?)\s+\(published\s+read-me'
    found = re.findall(pattern, docstring, re.MULTILINE)
    assert len(found) == docstring.count('Expect '), f'{name}: {found}'
    return {condition: float(top1) for top1, condition in found}


def hook_numbers(config: Config) -> dict[str, dict]:
    """Intervals and the like of the hooks that have them."""
    hooks = [*config.default_hooks.values(), *config.get('custom_hooks', [])]
    return {
        hook.type: {key: hook.get(key) for key in HOOKS[hook.type]}
        for hook in filter(None, hooks)
        if hook.type in HOOKS
    }


def data_facts(loader: dict) -> dict[str, object]:
    """Where images come from, what happens to them in which order, and how many a step sees."""
    dataset = loader.dataset
    operations = [describe(TRANSFORMS.build(entry)) for entry in dataset.pipeline]
    found = dict(
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        sampler=loader.sampler,
        source=dataset.source,
        operations=' | '.join(operations),
    )
    if 'erase' in dataset:
        found['erase'] = describe(TRANSFORMS.build(dataset.erase))
    if 'mask' in dataset:
        mask = TRANSFORMS.build(dataset.mask)
        hidden = int(mask(np.random.default_rng(0)).sum())
        found['mask'] = dict(image_size=mask.image_size, grid=mask.grid, hidden=hidden)
    return found


def describe(transform: object) -> str:
    """Class and numbers of a built transform."""
    kind = type(transform).__name__
    if kind == 'TorchvisionTransform':
        return repr(transform.transform)
    if kind == 'TimmAugment':
        first = transform.augment.ops[0]
        level = f'level {first.magnitude} ± {first.magnitude_std}'
        return f'{kind}: {transform.augment.num_layers} operations at {first.prob}, {level}'
    return f'{kind}: ' + ', '.join(f'{key} {getattr(transform, key)}' for key in SHOWN[kind])


def model_facts(config: Config, model: nn.Module) -> dict[str, object]:
    """Sizes, parameter groups and architecture of the built model."""
    parameters = dict(model.named_parameters())
    found = dict(
        parameters={name: count(child) for name, child in model.named_children() if count(child)},
        groups=[
            [float(f'{group["lr"]:.7g}'), group['weight_decay'], len(group['params'])]
            for group in groups_of(config, model)
        ],
        backbone_trains=any(module.training for module in model.backbone.modules()),
        backbone=backbone_facts(model.backbone),
    )
    trained = [name for name, parameter in parameters.items() if parameter.requires_grad]
    if len(trained) < len(parameters):
        found['trained'] = trained
    if hasattr(model, 'neck'):
        found |= dict(
            fill=model.fill,
            decoder={name: list(p.shape) for name, p in model.neck.named_parameters()},
            spectrum_of=model.head.spectral and [model.head.visible_fill, model.head.visible_leak],
        )
    return found


def backbone_facts(backbone: nn.Module) -> dict[str, object]:
    """Architecture of a timm model, and of the mask token in it."""
    model, token = backbone.model, backbone.mask_token
    parameters = dict(model.named_parameters())
    drops = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    found = dict(
        timm_parameters=count(model),
        out_channels=backbone.out_channels,
        stride=backbone.stride,
        width=model.num_features,
        drop_path=[len(drops), round(max(drops, default=0.0), 6)],
        parameter_names=' '.join(sorted({name.rpartition('.')[2] for name in parameters})),
        bias_tables=sorted({len(p) for name, p in parameters.items() if name.endswith('_table')}),
    )
    if getattr(model, 'pos_embed', None) is not None:
        found['positions'] = model.pos_embed.shape[1]
    if isinstance(getattr(model, 'global_pool', None), str):
        found['global_pool'] = model.global_pool
    for key in ('norm', 'fc_norm'):
        if hasattr(model, key):
            norm = getattr(model, key)
            found[key] = f'{type(norm).__name__} {getattr(norm, "eps", "")}'.strip()
    if token is not None:
        place = dict(after=backbone.mask_after, stride=backbone.mask_stride)
        gamma = token.gamma is not None
        shape = dict(width=list(token.token.shape), learns=token.token.requires_grad)
        found['token'] = dict(**place, mode=token.mode, gamma=gamma, **shape)
    return found


def count(module: nn.Module) -> int:
    """Number of its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def family_of(name: str) -> str:
    """The golden file that keeps a recipe."""
    return next(family for part, family in FAMILIES.items() if part in name)


def goldens(*families: str) -> dict[str, dict[str, object]]:
    """The facts of every recipe, or of some families, as the golden files have them."""
    found = {}
    for family in families or set(FAMILIES.values()):
        recipes = json.loads((FOLDER / f'{family}.json').read_text('utf-8'))
        common = recipes.pop(COMMON)
        found |= {name: common | own for name, own in recipes.items()}
    return found


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """One line for each fact that is not as expected."""
    return [
        f'{key}: expected {expected.get(key, "nothing")!r}, found {found.get(key, "nothing")!r}'
        for key in sorted(expected.keys() | found.keys())
        if key not in expected or key not in found or expected[key] != found[key]
    ]


def write_goldens() -> None:
    """Write the facts of today's configs."""
    families: dict[str, dict[str, dict]] = {}
    for name in PUBLISHED:
        config = read(name)
        known = facts(name, config, built(config.model))
        families.setdefault(family_of(name), {})[name] = known
    for family, recipes in families.items():
        write_family(family, recipes)


def write_family(family: str, recipes: dict[str, dict]) -> None:
    """Write what all recipes of a family share, then the rest of each."""
    first, *others = recipes.values()
    shared = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }
    own = {
        name: {key: value for key, value in known.items() if key not in shared}
        for name, known in recipes.items()
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f'{family}.json').write_text(as_json({COMMON: shared} | own), 'utf-8')


def as_json(recipes: dict[str, dict]) -> str:
    """One line for each fact."""
    parts = []
    for name, known in recipes.items():
        lines = (
            f'  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}' for k, v in known.items()
        )
        parts.append(f'{json.dumps(name)}: {{\n' + ',\n'.join(lines) + '\n}')
    return '{\n' + ',\n'.join(parts) + '\n}\n'


if __name__ == '__main__':
    init_default_scope('a2mim')
    write_goldens()
