"""Errors in a config, found before training: misspelt names, other classes, masks that do not fit.

Names are known from signatures: a registered class states what it accepts, and the Runner what a
config may hold at the top. A signature with ``**kwargs`` accepts any name but a near miss of one
that it spells out. ``check_names`` runs before anything is built, the other checks on the Runner.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, cast, get_args

from mmengine import Config
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, Registry
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader

from a2mim import registry as registries
from a2mim.engine.precision import MATMUL
from a2mim.engine.processes import bare_model
from a2mim.length import AUTO
from a2mim.masking import num_masked_patches


def accepted_arguments(target: Callable) -> tuple[set[str], bool]:
    """Names that ``target`` spells out, and whether these are all that it accepts.

    Where a class takes ``**kwargs``, the names of its base classes are added.
    """
    if inspect.isclass(target):
        inits = [vars(base)['__init__'] for base in target.__mro__ if '__init__' in vars(base)]
    else:
        inits = [target]
    names = set()
    for depth, init in enumerate(filter(inspect.isfunction, inits)):
        parameters = inspect.signature(init).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        # That of nn.Module takes any name, and refuses it.
        if init is nn.Module.__init__ or all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return names, depth == 0
    return names, False


def find_types(name: str) -> list[Callable]:
    """What ``name`` means in each registry that knows it."""
    found = []
    for registry in package_registries():
        try:
            target = registry.get(name)
        except RuntimeError:  # mmengine's word for a dotted name that does not import
            continue
        if target is not None and target not in found:
            found.append(target)
    return found


def registered_names() -> set[str]:
    """Every name that a config of this package can use as a ``type``."""
    return {
        name
        for registry in package_registries()
        for level in (registry, registry.parent)
        if level is not None
        for name in level.module_dict
    }


def package_registries() -> list[Registry]:
    """The registries of the package."""
    return [item for item in vars(registries).values() if isinstance(item, Registry)]


# Read by Runner or Config themselves, beside the arguments of the Runner.
RUNNER_KEYS = {*inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'} | {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
}
LOADER_KEYS = {*inspect.signature(DataLoader.__init__).parameters} - {'self'} | {
    'num_batch_per_epoch',
    'disable_subprocess_warning',
}
# Entries without a ``type``, and what they may hold.
PLAIN_ENTRIES = {
    'train_dataloader': LOADER_KEYS,
    'val_dataloader': LOADER_KEYS,
    'test_dataloader': LOADER_KEYS,
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', MATMUL},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'randomness': {*inspect.signature(Runner.set_randomness).parameters} - {'self'},
    'auto_scale_lr': {'base_batch_size', 'enable'},
}
IMPLICIT_TYPES = {
    'train_cfg': 'EpochBasedTrainLoop',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'optim_wrapper': 'OptimWrapper',
    'log_processor': 'LogProcessor',
    'visualizer': 'Visualizer',
}
# Names that mmengine takes out of an entry before it calls the class.
CONSUMED = {'type', 'by_epoch', 'convert_to_iter_based', 'constructor', 'paramwise_cfg', 'priority'}
# Subtrees whose ``type`` is not a registered name or belongs to the class that gets it.
OPAQUE = {'init_cfg', 'clip_grad', 'dist_cfg', 'compile'}


def check_names(cfg: Config) -> None:
    """Check every name of ``cfg`` that something will look up.

    Raises:
        KeyError: If a type is not registered.
        TypeError: If an argument is misspelt.
    """
    for name in cfg:
        near = difflib.get_close_matches(name, RUNNER_KEYS, n=1, cutoff=0.8)
        if name not in RUNNER_KEYS and near:
            raise TypeError(f'the config sets {name!r}, which nothing reads; {meant(near)}')
    for name in RUNNER_KEYS & cfg.keys():
        check_entry(cfg[name], name)


def check_option_names(cfg: Config, options: Collection[str]) -> None:
    """Check the dotted names of ``--cfg-options`` against the config that they change.

    Arguments of a type are left to ``check_names``, which knows what the type accepts.

    Raises:
        KeyError: If a name leads nowhere.
    """
    for option in options:
        first, *rest = option.split('.')
        if first not in cfg and first not in RUNNER_KEYS:
            near = places_of(cfg, option)
            near = near or difflib.get_close_matches(first, {*cfg.keys()} | RUNNER_KEYS, n=3)
            raise KeyError(f'--cfg-options {option}: the config has no {first!r}; {meant(near)}')
        if any(option.startswith(f'{other}.') for other in options):
            continue  # an entry of what another option gives
        node, place = cfg.get(first), first
        for number, part in enumerate(rest):
            if isinstance(node, list | tuple):
                node = entry_of(option, node, place, rest[number:])
            elif isinstance(node, dict) and part not in node and part.isdigit():
                near = '.'.join([place, *rest[number + 1 :]])
                raise KeyError(f'--cfg-options {option}: {place} is no list; {meant([near])}')
            elif not isinstance(node, dict) or ('type' in node and part not in node):
                break
            elif 'type' in node:
                node = node[part]
            else:
                near = difflib.get_close_matches(part, [*node], n=3, cutoff=0.8)
                if part not in node and near:
                    raise KeyError(f'--cfg-options {option}: there is no {part!r}; {meant(near)}')
                node = node.get(part)
            place = f'{place}.{part}'


def entry_of(option: str, node: Sequence, place: str, rest: Sequence[str]) -> object:
    """The entry of the list ``node``, at ``place``, that ``rest`` of an option begins with.

    Raises:
        KeyError: If it begins with no number of an entry.
    """
    if rest[0].isdigit() and int(rest[0]) < len(node):
        return node[int(rest[0])]
    numbers = [n for n, entry in enumerate(node) if isinstance(entry, dict) and rest[0] in entry]
    near = ['.'.join([place, str(n), *rest]) for n in numbers]
    raise KeyError(
        f'--cfg-options {option}: {place} is a list of {len(node)}, counted from 0; {meant(near)}'
    )


def places_of(cfg: Config, option: str) -> list[str]:
    """Dotted names of up to three entries that end in ``option``, or have a near name.

    Entries that are counted are known even where the config leaves them out.
    """
    known = [*dict.fromkeys([*entries_below(cfg), *SMALLEST])]
    exact = [place for place in known if f'.{place}'.endswith(f'.{option}')]
    if not exact:
        names = {place.rsplit('.', 1)[-1] for place in known}
        near = difflib.get_close_matches(option.rsplit('.', 1)[-1], names, n=1, cutoff=0.85)
        exact = [place for place in known if place.rsplit('.', 1)[-1] in near]
    return sorted(exact, key=lambda place: place.count('.'))[:3]


def entries_below(node: object, path: str = '') -> Iterator[str]:
    """Dotted names of everything below ``node``."""
    items = node.items() if isinstance(node, dict | Config) else ()
    if isinstance(node, list | tuple):
        items = enumerate(node)
    for key, item in items:
        place = f'{path}.{key}' if path else str(key)
        yield place
        yield from entries_below(item, place)


# Entries that must hold a dict where they are given, what they count, and the smallest number.
DICTS = ('model', 'optim_wrapper', 'train_cfg', 'default_hooks', 'randomness', 'env_cfg')
SMALLEST = {
    'train_dataloader.batch_size': 1,
    'val_dataloader.batch_size': 1,
    'test_dataloader.batch_size': 1,
    'train_dataloader.num_workers': 0,
    'val_dataloader.num_workers': 0,
    'test_dataloader.num_workers': 0,
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'optim_wrapper.accumulative_counts': 1,
    'auto_scale_lr.base_batch_size': 1,
}
NUMBERS = {int, float, bool, type(None)}
MOST_LR = 1e30  # above, a step of Adam is no float32


def check_values(cfg: Config) -> None:
    """Check entries that the rest of the program takes for dicts, for counts and for a rate.

    Raises:
        TypeError: If an entry is no dict or ``custom_hooks`` no list of dicts.
        ValueError: If a count or the learning rate is no such number.
    """
    for name in DICTS:
        if not isinstance(cfg.get(name, {}), dict | None):
            raise TypeError(f'{name}={cfg[name]!r} must be a dict of settings')
    hooks = cfg.get('custom_hooks') or []
    if not isinstance(hooks, list | tuple) or not all(isinstance(h, dict | Hook) for h in hooks):
        raise TypeError(
            f'custom_hooks={hooks!r} must be a list of dicts, such as '
            "custom_hooks=[dict(type='EarlyStoppingHook', monitor='accuracy/top1')]"
        )
    for path, smallest in SMALLEST.items():
        part, name = path.split('.')
        entry = cfg.get(part)
        if not isinstance(entry, dict) or name not in entry:
            continue
        value = entry[name]
        automatic = name == 'max_epochs' and value == AUTO
        if not automatic and not _is_count(value, smallest):
            raise ValueError(f'{path}={value!r} must be a whole number of {smallest} or more')
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer')
    lr = optimizer.get('lr', 0) if isinstance(optimizer, dict) else 0
    if not isinstance(lr, int | float) or not 0 <= lr <= MOST_LR:
        raise ValueError(
            f'optim_wrapper.optimizer.lr={lr!r} must be a number from 0 to {MOST_LR:g}; the '
            'configs have 1e-4 to 10'
        )


def _is_count(value: object, smallest: int) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and value == int(value) and value >= smallest


def check_trainable(cfg: Config) -> None:
    """Refuse a config that describes no training.

    Raises:
        ValueError: If so, with what it lacks.
    """
    needed = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    missing = [name for name in needed if not cfg.get(name)]
    if missing:
        raise ValueError(f'the config trains nothing: it has no {", no ".join(missing)}')


def check_entry(node: object, path: str) -> None:
    """Check ``node`` and everything below it; ``path`` is its dotted place in the config."""
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            check_entry(item, f'{path}.{index}')
    if not isinstance(node, dict) or path.rsplit('.', 1)[-1] in OPAQUE:
        return
    if path in PLAIN_ENTRIES:
        check_arguments(node, path, PLAIN_ENTRIES[path], exact=True)
    name = node.get('type', IMPLICIT_TYPES.get(path))
    if path == 'train_cfg' and not node.get('by_epoch', True):
        name = node.get('type', 'IterBasedTrainLoop')
    if name is not None:
        check_typed(node, path, name)
    for key, item in node.items():
        check_entry(item, f'{path}.{key}')


def check_typed(node: dict, path: str, name: str | Callable) -> None:
    """Check the arguments of ``node`` against what the type ``name`` accepts."""
    candidates = find_types(name) if isinstance(name, str) else [name]
    if not candidates:
        known = registered_names()
        near = [one for one in known if one.lower() == str(name).lower()]
        near = near or difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
        raise KeyError(f'{path}.type={name!r} is not a registered name; {meant(near)}')
    if path.endswith(('collate_fn', 'worker_init_fn')) and FUNCTIONS.get(str(name)) is None:
        # mmengine ignores the default scope for functions, and gets None.
        raise KeyError(f'{path}.type={name!r} is looked up by its full name: write a2mim.{name}')
    failures = []
    for candidate in candidates:
        names, exact = accepted_arguments(candidate)
        try:
            check_arguments(node, path, names | CONSUMED, exact, str(name))
            return check_numbers(node, path, candidate)
        except TypeError as error:
            failures.append(error)
    raise failures[-1]


def check_arguments(
    given: Iterable[str], path: str, names: set[str], exact: bool, owner: str = ''
) -> None:
    """Every name in ``given`` is in ``names`` or, unless ``exact``, at least no near miss."""
    for key in given:
        if key in names or key.startswith('_'):
            continue
        near = difflib.get_close_matches(key, names, n=3, cutoff=0.6 if exact else 0.8)
        if exact or near:
            hint = meant(near) if near else f'it accepts {", ".join(sorted(names))}'
            hint += of_another_type(key, path) if owner else ''
            raise TypeError(f'{path}.{key} is not an argument of {owner or path}; {hint}')


def of_another_type(key: str, path: str) -> str:
    """The hint that ``key`` is one of another type, which a child config has changed; or ''."""
    levels = {level for item in package_registries() for level in (item, item.parent) if level}
    types = {target for level in levels for target in level.module_dict.values()}
    if not any(key in accepted_arguments(target)[0] for target in types):
        return ''
    return f'; if it is left of another type in _base_, add _delete_=True to {path}'


def check_numbers(node: dict, path: str, target: Callable) -> None:
    """Check that no text stands where the annotation of an argument allows numbers only.

    Raises:
        TypeError: If one does, such as ``interval='ten'``.
    """
    init = target.__init__ if inspect.isclass(target) else target
    parameters = inspect.signature(init).parameters if inspect.isfunction(init) else {}
    for key, value in node.items():
        kind = parameters[key].annotation if key in parameters else str
        kinds = {kind} if inspect.isclass(kind) else {*get_args(kind)}
        counted = f'{path}.{key}' in SMALLEST  # by check_values, which names the smallest one
        if isinstance(value, str) and kinds and kinds <= NUMBERS and not counted:
            raise TypeError(f'{path}.{key}={value!r} must be a number')


def meant(near: list[str]) -> str:
    """A hint that ends an error message."""
    return f'did you mean {" or ".join(near)}?' if near else 'no name comes near'


def check_class_count(runner: Runner) -> None:
    """Refuse a classifier for another number of classes than the training images have.

    Labels beyond the classifier would end the run with an error of the device; a classifier that
    is too wide would train, and hide that it was given other data. Models without a classifier,
    and data without names of classes, pass.

    Raises:
        ValueError: If so, or if a label means another class in validation than in training; list
            files have numbers in place of names, which are not compared.
    """
    model = bare_model(runner.model)
    backbone = getattr(getattr(model, 'backbone', None), 'model', None)
    num_classes = getattr(backbone, 'num_classes', 0)
    classes = classes_of(runner.train_loop)
    if not num_classes or not classes:
        return
    if num_classes != len(classes):
        raise ValueError(
            f'model.backbone.num_classes={num_classes}, but the training images have '
            f'{len(classes)} classes ({abridged(classes)}); pass --cfg-options '
            f'model.backbone.num_classes={len(classes)}, or give the images of the config'
        )
    for loop in (runner.val_loop, *getattr(runner.val_loop, 'others', {}).values()):
        validated = classes_of(loop)
        unnamed = are_numbers(validated) or are_numbers(classes)
        if unnamed and len(validated) <= len(classes):
            continue
        # A class may be missing behind the last one: the others keep their numbers.
        if validated != classes[: len(validated)]:
            raise ValueError(
                f'the validation images have the classes {abridged(validated)}, the training '
                f'images {abridged(classes)}: the same label would mean two things; make the '
                'class folders of both the same'
            )


def classes_of(loop: object) -> tuple[str, ...]:
    """Names of the classes that a loop iterates over; empty without any."""
    dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
    return tuple(getattr(dataset, 'metainfo', {}).get('classes', ()))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether classes have no names but their numbers, as in a list file."""
    return all(name == str(number) for number, name in enumerate(names))


def abridged(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ', '.join(names[:5]) + (', …' if len(names) > 5 else '')


def check_mask_grid(runner: Runner) -> None:
    """Refuse mask blocks that do not fit the features which they hide.

    Models without a backbone that checks, and data without a mask, pass. So do sharded models,
    whose parts cannot run by themselves: the first batch is checked on its way through them.

    Raises:
        ValueError: If so; it says which block sizes fit.
    """
    model = bare_model(runner.model)
    mask = getattr(cast(BaseLoop, runner.train_loop).dataloader.dataset, 'mask', None)
    if mask is not None and not isinstance(model, FSDPModule):
        check_mask(model, mask)


def check_mask(model: nn.Module, mask: Any) -> None:
    """Check a ``PatchMask`` by the model's own ``check_mask``, or by its backbone.

    Raises:
        ValueError: If it does not fit.
    """
    own = getattr(model, 'check_mask', None)
    check = getattr(getattr(model, 'backbone', None), 'check_mask_grid', None)
    if own is not None:
        own(mask.image_size, mask.grid, num_masked_patches(mask.grid, mask.ratio))
    elif check is not None:
        check(mask.image_size, mask.grid)
