"""The registries of a2mim: children, with scope ``a2mim``, of mmengine's registries.

A name that a config gives as ``type='...'`` is looked up here first and in mmengine afterwards.
The modules named below are imported on the first look-up, so that a config finds our types
without importing anything itself. mmengine warns about a root that has no child of our scope:
hence the registries that hold nothing.
"""

from typing import Any

from mmengine import registry as mmengine


def _child(root: mmengine.Registry, *modules: str) -> mmengine.Registry:
    """Make the child of ``root`` whose types the ``modules`` below a2mim register."""
    locations = [f'a2mim.{module}' for module in modules]
    return mmengine.Registry(root.name, parent=root, scope='a2mim', locations=locations)


MODELS = _child(mmengine.MODELS, 'models')
MODEL_WRAPPERS = _child(mmengine.MODEL_WRAPPERS, 'engine.registered')
WEIGHT_INITIALIZERS = _child(mmengine.WEIGHT_INITIALIZERS, 'models')
DATASETS = _child(mmengine.DATASETS, 'datasets')
DATA_SAMPLERS = _child(mmengine.DATA_SAMPLERS, 'datasets')
TRANSFORMS = _child(mmengine.TRANSFORMS, 'datasets')
FUNCTIONS = _child(mmengine.FUNCTIONS, 'datasets')
OPTIMIZERS = _child(mmengine.OPTIMIZERS, 'engine.registered')
OPTIM_WRAPPERS = _child(mmengine.OPTIM_WRAPPERS, 'engine.registered')
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmengine.OPTIM_WRAPPER_CONSTRUCTORS, 'engine.registered')
PARAM_SCHEDULERS = _child(mmengine.PARAM_SCHEDULERS, 'engine.registered')
# A hook that evaluates lies in the package evaluation, which the engine does not import.
HOOKS = _child(mmengine.HOOKS, 'engine.registered', 'evaluation')
LOOPS = _child(mmengine.LOOPS, 'engine.registered')
LOG_PROCESSORS = _child(mmengine.LOG_PROCESSORS, 'engine.registered')
METRICS = _child(mmengine.METRICS, 'evaluation')
VISUALIZERS = _child(mmengine.VISUALIZERS, 'engine.registered')
# Nothing is registered in these.
EVALUATOR = _child(mmengine.EVALUATOR, 'evaluation')
VISBACKENDS = _child(mmengine.VISBACKENDS, 'engine.registered')


def build_module(part: Any) -> Any:
    """A module of torch as it is, or the one that a config describes.

    Raises:
        TypeError: If it is neither.
    """
    from torch import nn  # later than the registries: help is shown without torch

    return part if isinstance(part, nn.Module) else MODELS.build(part)


class Together:
    """Context manager in which every process of a run builds the same, in the same order.

    What takes long may then be done by the first process, which sends the others the result.
    """

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *error: object) -> None:
        self.depth -= 1


TOGETHER = Together()
