"""What the name in a ``type`` entry means, and which arguments it takes."""

import inspect
from collections.abc import Callable

from mmengine.registry import Registry

from a2mim import registry as registries


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
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
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
        for name in level.module_dict
    }


def package_registries() -> list[Registry]:
    """The registries of the package."""
    return [item for item in vars(registries).values() if isinstance(item, Registry)]
