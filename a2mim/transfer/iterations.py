"""Schedules in iterations, where one optimiser step takes several of them."""

from mmengine import Config

SPANS = ('begin', 'end')


def stretch_iterations(cfg: Config, before: int) -> str | None:
    """Let a schedule in iterations see the images it is meant for; return a line for the log.

    mmengine counts iterations, of which an optimiser step accumulates several where there are too
    few processes. The length of the training, the distance of evaluations and checkpoints, and the
    spans of the learning rate then grow by as much.

    Args:
        cfg: Config whose batch is fitted to the processes, changed in place.
        before: Iterations per optimiser step that its schedule is meant for.
    """
    after = cfg.optim_wrapper.get('accumulative_counts', 1)
    if after == before or 'max_iters' not in cfg.train_cfg:
        return None
    checkpoint = cfg.get('default_hooks', {}).get('checkpoint', {})
    parts = [(cfg.train_cfg, ('max_iters', 'val_interval')), (checkpoint, ('interval',))]
    schedulers = cfg.get('param_scheduler') or []
    parts += [(item, SPANS) for item in schedulers if not item.get('by_epoch', True)]
    for part, names in parts:
        for name in names:
            if name in part:
                part[name] = part[name] * after // before
    return (
        f'{after} iterations make one optimiser step, in place of {before}: the schedule takes '
        f'{cfg.train_cfg.max_iters} iterations'
    )
