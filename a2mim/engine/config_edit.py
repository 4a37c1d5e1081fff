"""Changes of a config before it is built: another folder of images, the batch of its recipe.

``--data-root`` is for every ``source`` with a ``root`` inside a data loader or a hook. The learning
rate of a config holds for one global batch, what an optimiser step sees: processes x batch per
process x accumulation. A config states it as ``auto_scale_lr.base_batch_size``.
"""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mmengine import Config

if TYPE_CHECKING:
    from mmengine.runner import Runner

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
HOOKS = ('default_hooks', 'custom_hooks')
# What ``--precision`` writes into ``optim_wrapper``.
PRECISIONS: dict[str, dict[str, str]] = {
    'auto': dict(type='AmpOptimWrapper', dtype='auto'),
    'fp32': dict(type='OptimWrapper'),
    'bf16': dict(type='AmpOptimWrapper', dtype='bfloat16'),
    'fp16': dict(type='AmpOptimWrapper', dtype='float16'),
}
AMP_ONLY = ('dtype', 'loss_scale')  # arguments of AmpOptimWrapper that OptimWrapper has not


def set_data_root(cfg: Config, root: str) -> None:
    """Point every image source of ``cfg`` at ``root``.

    A source that reads ``.../train`` or ``.../val`` in the config reads that part of ``root``
    where it exists, and ``root`` itself where it does not.

    Raises:
        FileNotFoundError: If ``root`` is no folder.
        ValueError: If no source reads a folder, or training and evaluation, in the loaders or in a
            hook that measures, would read the same images.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f'--data-root {root} is not a folder')
    places = [*LOADERS, *HOOKS]
    if not any(source for name in places for source in folder_sources(cfg.get(name))):
        raise ValueError(
            f'--data-root {root} has no effect: no data set of this config reads a folder'
        )
    for source in (source for name in places for source in folder_sources(cfg.get(name))):
        part = Path(root) / Path(source['root']).name
        source['root'] = str(part if part.is_dir() else root)
    remedy = f'put them in {root}/train and {root}/val'
    for name in LOADERS[1:]:
        split = name.split('_')[0]
        refuse_same_images(cfg.get('train_dataloader'), cfg.get(name), split, remedy)
    for hook in hooks_of(cfg):
        name, without = f'test of {hook.get("type")}', '--cfg-options custom_hooks=[]'
        hook_remedy = f'{remedy}, or train without that hook ({without})'
        refuse_same_images(hook.get('train'), hook.get('test'), name, hook_remedy)


def use_precision(cfg: Config, precision: str) -> None:
    """Let the optimiser wrapper of ``cfg`` compute in one of ``PRECISIONS``.

    Raises:
        ValueError: If the wrapper is another than the two that have a precision.
    """
    require_plain_wrapper(cfg, f'--precision {precision}')
    for name in AMP_ONLY:
        cfg.optim_wrapper.pop(name, None)
    cfg.optim_wrapper.update(PRECISIONS[precision])


def use_mixed_precision(cfg: Config) -> None:
    """Replace the plain optimiser wrapper by the one with autocast (``--amp``)."""
    require_plain_wrapper(cfg, '--amp')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'


def require_plain_wrapper(cfg: Config, option: str) -> None:
    """Refuse ``option`` for a wrapper that this package does not know."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f"{option} needs optim_wrapper.type='OptimWrapper', not {kind!r}")


PROBED = 1000  # images of each part of a probe: seconds at 224 pixels
# What decides how the files of a source are read.
READING = ('channels', 'shrink_to', 'bands', 'page', 'axes', 'nodata', 'dtype')


def add_probe(cfg: Config, folder: str) -> None:
    """Measure the features by the class folders in ``folder`` during a pre-training.

    Where there is no ``val``, the hook splits every class in halves.
    The files are read as those of the training, and resized to its size. A probe that the config
    has is replaced.

    Raises:
        FileNotFoundError: If ``folder`` is none.
        ValueError: If the config does not pre-train.
    """
    parts = probe_parts(folder)
    learnt = next((d for d in find_datasets(cfg.get('train_dataloader')) if d.get('mask')), None)
    if learnt is None:
        raise ValueError(
            '--probe measures features during a pre-training, and this config trains on images '
            'without masks: its validation measures it'
        )
    options = {key: value for key, value in learnt['source'].items() if key in READING}
    options.setdefault('channels', len(cfg.model.data_preprocessor.mean))
    size = learnt['mask']['image_size']
    pipeline = [dict(type='Resize', size=size), dict(type='CenterCrop', size=size)]

    def images(part: Path) -> dict:
        source = dict(type='ImageFolder', root=str(part), with_labels=True, **options)
        return dict(type='ImageDataset', source=source, pipeline=pipeline)

    hook = dict(
        type='FeatureProbeHook',
        interval=None,  # a twentieth of the run
        linear=True,
        most=PROBED,
        **dict(zip(('train', 'test'), map(images, parts), strict=False)),
    )
    others = [one for one in cfg.get('custom_hooks') or [] if one['type'] != hook['type']]
    cfg.custom_hooks = [*others, hook]


def probe_parts(folder: str) -> list[Path]:
    """``train`` and ``val`` of ``folder`` where it has both, else itself.

    Raises:
        FileNotFoundError: If ``folder`` is none.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f'--probe {folder} is not a folder; give one of class folders')
    parts = [Path(folder, name) for name in ('train', 'val')]
    return parts if all(part.is_dir() for part in parts) else [Path(folder)]


def check_data_root(cfg: Config, places: Sequence[str]) -> None:
    """Refuse folders of images that are not there, before anything is built.

    Raises:
        FileNotFoundError: If a folder in one of the ``places`` of ``cfg`` is missing.
    """
    for name in places:
        for source in folder_sources(cfg.get(name)):
            if source.get('type') == 'ImageFolder' and not Path(source['root']).is_dir():
                raise FileNotFoundError(
                    f'{name} reads {source["root"]}, which is not a folder; pass the folder of '
                    'your images: --data-root DIR'
                )


def refuse_same_images(train: object, test: object, name: str, remedy: str) -> None:
    """Keep images to learn from, all or a few of each class, out of evaluation.

    Raises:
        ValueError: If a source below ``test`` reads the folder of one below ``train``, or a folder
            that holds it.
    """
    for learnt in folder_sources(train):
        for tested in folder_sources(test):
            inside = Path(learnt['root']).is_relative_to(tested['root'])
            if inside and options_of(learnt) == options_of(tested):
                raise ValueError(
                    f'--data-root gives training and {name} the same images, {learnt["root"]}; '
                    f'{remedy}'
                )


def options_of(source: dict) -> dict:
    """What else than the folder decides which images a source reads; a few are a part of all."""
    apart = ('root', 'labels_per_class', 'seed')
    return {key: item for key, item in source.items() if key not in apart}


def hooks_of(cfg: Config) -> Iterator[dict]:
    """Every hook of a config, whichever way it is given."""
    yield from filter(None, (cfg.get('default_hooks') or {}).values())
    yield from cfg.get('custom_hooks') or []


def folder_sources(node: object) -> Iterator[dict]:
    """Every image source below ``node`` that reads a folder."""
    for dataset in find_datasets(node):
        if 'root' in dataset['source']:
            yield dataset['source']


def find_datasets(node: object) -> Iterator[dict]:
    """Every dict below ``node`` with a ``source``: the data sets of this package."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from find_datasets(item)
    elif isinstance(node, dict):
        if isinstance(node.get('source'), dict):
            yield node
        for item in node.values():
            yield from find_datasets(item)


@dataclass(frozen=True)
class BatchPlan:
    """How one optimiser step is put together.

    Args:
        processes: Number of training processes.
        batch_size: Images per process and iteration.
        accumulation: Iterations per optimiser step.
        lr_factor: Factor on the learning rate of the config.
    """

    processes: int
    batch_size: int
    accumulation: int
    lr_factor: float = 1.0

    @property
    def global_batch(self) -> int:
        """Images per optimiser step."""
        return self.processes * self.batch_size * self.accumulation

    def __str__(self) -> str:
        terms = f'{self.processes} × {self.batch_size} × {self.accumulation}'
        return f'{self.global_batch} = {terms} (processes × batch × accumulation)'


def keep_global_batch(base: int, plan: BatchPlan) -> BatchPlan:
    """Reach the global batch ``base``: accumulate where it is larger, shrink the batch where not.

    Raises:
        ValueError: If no accumulation or smaller batch makes it.
    """
    per_iteration = plan.processes * plan.batch_size
    if base % per_iteration == 0:
        return BatchPlan(plan.processes, plan.batch_size, base // per_iteration)
    if per_iteration > base and base % plan.processes == 0:
        return BatchPlan(plan.processes, base // plan.processes, 1)
    remedy = f'give another number of processes (one that divides {base})'
    if base % plan.processes == 0:
        share = base // plan.processes
        fitting = max(size for size in range(1, plan.batch_size) if share % size == 0)
        remedy = f'set train_dataloader.batch_size={fitting} (it has to divide {share})'
    raise ValueError(
        f'the learning rate of this config is meant for {base} images per optimiser step, and '
        f'{plan.processes} × {plan.batch_size} (processes × batch) does not divide that; '
        f'{remedy}, or pass --auto-scale-lr to scale the learning rate'
    )


def scale_lr(base: int, plan: BatchPlan) -> BatchPlan:
    """Keep batch and accumulation, and scale the learning rate linearly with the global batch.

    The minimum of a cosine, an absolute rate, is scaled too: below it the rate would never fall.
    """
    return BatchPlan(plan.processes, plan.batch_size, plan.accumulation, plan.global_batch / base)


def apply_batch_rule(cfg: Config, processes: int) -> str | None:
    """Fit ``cfg`` to the number of processes; return a line for the log.

    ``cfg.auto_scale_lr.enable`` chooses between the two rules. A config without
    ``auto_scale_lr`` is left alone.

    Raises:
        ValueError: If the learning rate is no number, or the global batch cannot be reached.
    """
    rule = cfg.get('auto_scale_lr')
    if rule is None:
        return None
    base = rule['base_batch_size']
    loader = cfg.train_dataloader
    # A sampler of batches without a size of its own is given that of the loader.
    if 'batch_size' in (loader.get('batch_sampler') or {}):
        loader = loader.batch_sampler
    wrapper = cfg.optim_wrapper
    if not isinstance(wrapper.optimizer.get('lr'), int | float):
        raise ValueError(
            f'optim_wrapper.optimizer.lr={wrapper.optimizer.get("lr")!r} must be a number'
        )
    plan = BatchPlan(processes, loader['batch_size'], wrapper.get('accumulative_counts', 1))
    plan = scale_lr(base, plan) if rule.get('enable') else keep_global_batch(base, plan)
    loader['batch_size'] = plan.batch_size
    wrapper.accumulative_counts = plan.accumulation
    if plan.lr_factor == 1:
        return f'global batch {plan}; learning rate as configured, {wrapper.optimizer.lr:g}'
    before, wrapper.optimizer.lr = wrapper.optimizer.lr, wrapper.optimizer.lr * plan.lr_factor
    minima = scale_minima(cfg.get('param_scheduler'), plan.lr_factor)
    # The written config states what ran, and runs as it is: it needs no second scaling.
    cfg.auto_scale_lr = dict(base_batch_size=plan.global_batch, enable=False)
    return (
        f'global batch {plan}; learning rate scaled by {plan.lr_factor:g} from {before:g}, '
        f'which holds for {base}, to {wrapper.optimizer.lr:g}'
        + ''.join(f', and its minimum to {minimum:g}' for minimum in minima)
    )


def compare_plans(before: BatchPlan, now: BatchPlan) -> str | None:
    """Whether a run built as ``before`` may be resumed as ``now``; return a line for the log.

    It may on another number of processes if an iteration has as many images: then schedules and
    the place in the epoch hold, and each step sees the same images.

    Raises:
        ValueError: If an iteration or an optimiser step has another number of images.
    """
    if now == before:
        return None
    images = before.processes * before.batch_size
    if now.processes * now.batch_size == images and now.accumulation == before.accumulation:
        return (
            f'resumed with global batch {now}, stopped with {before}: each step has the same '
            'images, but random erasing, mixing and rounding differ, so that results agree, but '
            'not to the last bit'
        )
    remedy = f'a number of processes that divides {images}'
    if images % now.processes == 0:
        remedy = (
            f'train_dataloader.batch_size={images // now.processes} and '
            f'optim_wrapper.accumulative_counts={before.accumulation}'
        )
    raise ValueError(
        f'this run has global batch {now}, but the checkpoint was trained with {before}, and its '
        f'schedules count iterations of {images} images: resume with {remedy}'
    )


def scale_minima(schedulers: dict | list | None, factor: float) -> list[float]:
    """Multiply every ``eta_min`` by ``factor`` in place; return the new ones."""
    entries = schedulers if isinstance(schedulers, list) else [schedulers or {}]
    scaled = [entry for entry in entries if entry.get('eta_min')]
    for entry in scaled:
        entry['eta_min'] *= factor
    return [entry['eta_min'] for entry in scaled]


def check_epoch_length(runner: 'Runner', *, scaled: bool = False) -> None:
    """Refuse an epoch with fewer batches than one optimiser step accumulates.

    Args:
        runner: Of the training.
        scaled: Whether --auto-scale-lr is given, and so is no remedy.

    Raises:
        ValueError: If so; also for an epoch without any batch.
    """
    from mmengine.dist import get_world_size
    from mmengine.runner import BaseLoop, EpochBasedTrainLoop

    loop = cast(BaseLoop, runner.train_loop)
    batches = len(loop.dataloader)
    accumulation = runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    if batches >= accumulation or not isinstance(loop, EpochBasedTrainLoop):
        return
    images = len(cast(Sized, loop.dataloader.dataset))
    option = '' if scaled or runner.cfg.get('auto_scale_lr') is None else ' --auto-scale-lr'
    if not batches:
        share = images // get_world_size()
        raise ValueError(
            f'{images} images do not fill one batch of {runner.cfg.train_dataloader.batch_size} '
            'in each process: use more images, or a smaller batch with --cfg-options '
            f'train_dataloader.batch_size={max(1, share)}{option}'
        )
    remedy = f'pass{option}, which scales the learning rate to the batch instead of accumulating'
    if not option:
        remedy = f'set --cfg-options optim_wrapper.accumulative_counts={batches}'
    raise ValueError(
        f'{images} images make {batches} batches per epoch, but one optimiser step accumulates '
        f'{accumulation}: use more images, or {remedy}'
    )


def stretch_iterations(cfg: Config, before: int) -> str | None:
    """Let a schedule in iterations see the images it is meant for; return a line for the log.

    mmengine counts iterations, of which an optimiser step accumulates several where there are too
    few processes. The length of the training, the intervals of evaluations and checkpoints, and the
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
    parts += [(item, ('begin', 'end')) for item in schedulers if not item.get('by_epoch', True)]
    for part, names in parts:
        for name in names:
            if name in part:
                part[name] = part[name] * after // before
    return (
        f'{after} iterations make one optimiser step, in place of {before}: the schedule takes '
        f'{cfg.train_cfg.max_iters} iterations'
    )
