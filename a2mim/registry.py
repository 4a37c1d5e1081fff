"""The registries of a2mim: one child, scope ``a2mim``, of every mmengine root a config touches.

A name that a config gives as ``type='...'`` is looked up here first and in mmengine afterwards.
``locations`` names the packages that are imported on the first look-up, so that a config finds
our types without importing anything itself.
"""

from mmengine import registry as mmengine

MODELS = mmengine.Registry(
    'model', parent=mmengine.MODELS, scope='a2mim', locations=['a2mim.models']
)
MODEL_WRAPPERS = mmengine.Registry(
    'model wrapper', parent=mmengine.MODEL_WRAPPERS, scope='a2mim', locations=['a2mim.engine']
)
WEIGHT_INITIALIZERS = mmengine.Registry(
    'weight initializer',
    parent=mmengine.WEIGHT_INITIALIZERS,
    scope='a2mim',
    locations=['a2mim.models'],
)
DATASETS = mmengine.Registry(
    'dataset', parent=mmengine.DATASETS, scope='a2mim', locations=['a2mim.datasets']
)
DATA_SAMPLERS = mmengine.Registry(
    'data sampler', parent=mmengine.DATA_SAMPLERS, scope='a2mim', locations=['a2mim.datasets']
)
TRANSFORMS = mmengine.Registry(
    'transform', parent=mmengine.TRANSFORMS, scope='a2mim', locations=['a2mim.datasets']
)
FUNCTIONS = mmengine.Registry(
    'function', parent=mmengine.FUNCTIONS, scope='a2mim', locations=['a2mim.datasets']
)
OPTIMIZERS = mmengine.Registry(
    'optimizer', parent=mmengine.OPTIMIZERS, scope='a2mim', locations=['a2mim.engine']
)
OPTIM_WRAPPERS = mmengine.Registry(
    'optimizer wrapper', parent=mmengine.OPTIM_WRAPPERS, scope='a2mim', locations=['a2mim.engine']
)
OPTIM_WRAPPER_CONSTRUCTORS = mmengine.Registry(
    'optimizer wrapper constructor',
    parent=mmengine.OPTIM_WRAPPER_CONSTRUCTORS,
    scope='a2mim',
    locations=['a2mim.engine'],
)
PARAM_SCHEDULERS = mmengine.Registry(
    'parameter scheduler',
    parent=mmengine.PARAM_SCHEDULERS,
    scope='a2mim',
    locations=['a2mim.engine'],
)
HOOKS = mmengine.Registry(
    'hook',
    parent=mmengine.HOOKS,
    scope='a2mim',
    # A hook that evaluates lies with what it evaluates by: the engine imports no evaluation.
    locations=['a2mim.engine', 'a2mim.evaluation'],
)
LOOPS = mmengine.Registry('loop', parent=mmengine.LOOPS, scope='a2mim', locations=['a2mim.engine'])
LOG_PROCESSORS = mmengine.Registry(
    'log processor', parent=mmengine.LOG_PROCESSORS, scope='a2mim', locations=['a2mim.engine']
)
RUNNERS = mmengine.Registry(
    'runner', parent=mmengine.RUNNERS, scope='a2mim', locations=['a2mim.engine']
)
RUNNER_CONSTRUCTORS = mmengine.Registry(
    'runner constructor',
    parent=mmengine.RUNNER_CONSTRUCTORS,
    scope='a2mim',
    locations=['a2mim.engine'],
)
STRATEGIES = mmengine.Registry(
    'strategy', parent=mmengine.STRATEGIES, scope='a2mim', locations=['a2mim.engine']
)
METRICS = mmengine.Registry(
    'metric', parent=mmengine.METRICS, scope='a2mim', locations=['a2mim.evaluation']
)
EVALUATOR = mmengine.Registry(
    'evaluator', parent=mmengine.EVALUATOR, scope='a2mim', locations=['a2mim.evaluation']
)
VISUALIZERS = mmengine.Registry(
    'visualizer', parent=mmengine.VISUALIZERS, scope='a2mim', locations=['a2mim.engine']
)
VISBACKENDS = mmengine.Registry(
    'visualizer backend', parent=mmengine.VISBACKENDS, scope='a2mim', locations=['a2mim.engine']
)
