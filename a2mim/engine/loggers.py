"""Where curves, pictures and configs of a run go besides its work dir: one option, one check.

``--log tensorboard,wandb`` adds back ends of mmengine's visualizer. Nothing is sent anywhere unless
a config or this option names a back end that does.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from mmengine import Config

# Class in mmengine, the packages that it imports, and arguments.
BACKENDS: dict[str, tuple[str, str, dict]] = {
    'tensorboard': ('TensorboardVisBackend', 'tensorboard', {}),
    'wandb': ('WandbVisBackend', 'wandb', dict(init_kwargs=dict(project='a2mim'))),
    'mlflow': ('MLflowVisBackend', 'mlflow', dict(exp_name='a2mim')),
    'clearml': ('ClearMLVisBackend', 'clearml', dict(init_kwargs=dict(project_name='a2mim'))),
    'aim': ('AimVisBackend', 'aim', {}),
    'dvclive': ('DVCLiveVisBackend', 'dvclive pygit2', {}),
}


def add_loggers(cfg: Config, names: Sequence[str]) -> None:
    """Add the back ends ``names`` to ``cfg``, but for those that it has.

    Raises:
        ValueError: If one is unknown.
    """
    names = [name.strip() for name in names]
    unknown = [name for name in names if name not in BACKENDS]
    if unknown:
        raise ValueError(f'--log {unknown[0]} is unknown; it takes {", ".join(BACKENDS)}')
    if not cfg.get('visualizer'):
        cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    backends = list(cfg.visualizer.get('vis_backends') or [])
    present = {backend['type'].rpartition('.')[2] for backend in backends}
    added = [BACKENDS[name] for name in dict.fromkeys(names)]
    backends += [dict(type=kind, **kwargs) for kind, _, kwargs in added if kind not in present]
    cfg.visualizer.vis_backends = backends


def check_loggers(cfg: Config) -> None:
    """Refuse a back end whose package is not installed: mmengine asks for it at the first value.

    Raises:
        ImportError: If so.
        TypeError: If they are no dicts.
    """
    needed = {kind: packages.split() for kind, packages, _ in BACKENDS.values()}
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    if not all(isinstance(one, dict) and 'type' in one for one in backends):
        raise TypeError(
            f'visualizer.vis_backends={backends!r} must be a list of dicts, such as '
            "[dict(type='TensorboardVisBackend')]; --log NAME adds one"
        )
    for backend in backends:
        kind = backend['type'].rpartition('.')[2] if isinstance(backend['type'], str) else ''
        missing = [name for name in needed.get(kind, []) if find_spec(name) is None]
        if missing:
            raise ImportError(
                f'{kind} needs the package {missing[0]}: pip install {" ".join(missing)}, or leave '
                'it out'
            )
