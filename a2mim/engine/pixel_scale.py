"""The scale of a run: measured once on its training images, and kept in its config.

A rule such as 'minmax' becomes numbers before training; the config that is written to the work dir
and into every checkpoint has the numbers, so that whoever reads it scales images as training did.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from mmengine import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from a2mim.registry import DATASETS
from a2mim.scale import (
    MEASURED,
    PixelStats,
    Scale,
    Source,
    check_scale,
    measure,
    range_warning,
)
from a2mim.weights.recipe import embedded_values
from a2mim.weights.safe_load import peek

SAMPLE = 256  # images, evenly spread, whose numbers a rule takes
LOOKED_AT = 32  # images of which a run says what they are
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def scale_of(cfg: Mapping | Config) -> Scale:
    """The scale of a config, 'dtype' where it has none or another preprocessor."""
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    if str(preprocessor.get('type')).removeprefix('a2mim.') != 'ImagePreprocessor':
        return 'dtype'
    return preprocessor.get('scale', 'dtype')


def sources(cfg: Mapping | Config) -> Iterator[dict]:
    """The configs of the image sources of a config, that of the training first."""
    for name in LOADERS:
        source = ((cfg.get(name) or {}).get('dataset') or {}).get('source')
        if isinstance(source, dict):
            yield source


def adopt_scale(cfg: Config, checkpoint: str) -> list[str]:
    """Take numbers for a rule, and the type of the images, from the config in a checkpoint.

    Returns:
        A line for the log, if something was taken.
    """
    scale = scale_of(cfg)
    if scale == 'dtype' or not Path(checkpoint).is_file():
        return []
    try:
        before = embedded_values(peek(Path(checkpoint))) or {}
    except ValueError:  # the weights in it are read, or refused, elsewhere
        return []
    found, channels = scale_of(before), len(cfg.model.data_preprocessor.mean)
    if isinstance(found, str):
        return []
    if scale not in MEASURED and check_scale(scale, channels) != check_scale(found, channels):
        return []
    dtype = next((source.get('dtype') for source in sources(before)), None)
    if dtype is not None:
        state_type(cfg, dtype)
    if scale not in MEASURED:
        return []
    cfg.model.data_preprocessor.scale = found
    return [f'scale={scale!r}: {found} of {dtype} images, as in {checkpoint}']


def adopt_from_weights(cfg: Config) -> list[str]:
    """``adopt_scale`` from the file whose weights a new run starts with, if there is one."""
    if scale_of(cfg) not in MEASURED:
        return []
    initial = (cfg.model.get('backbone') or {}).get('init_cfg') or {}
    file = cfg.get('load_from') or initial.get('checkpoint')
    return adopt_scale(cfg, file) if file else []


def resolve_scale(cfg: Config) -> list[str]:
    """Turn a rule that is measured into numbers, and state the type of images they belong to.

    The first process measures, all get its numbers.

    Returns:
        A line for the log, if there was something to measure.

    Raises:
        ValueError: If a channel has one value only, or no image can be read.
    """
    rule = scale_of(cfg)
    source = next(sources(cfg), None)
    stated = source is None or 'dtype' in source
    if rule == 'dtype' or (stated and rule not in MEASURED):
        return []
    if source is None:
        raise ValueError(f'scale={rule!r} is measured of image files, which this config has not')
    if not isinstance(rule, str):
        check_scale(rule, len(cfg.model.data_preprocessor.mean))
    answer = _measured(source, rule) if is_main_process() else [None, None]
    broadcast_object_list(answer)
    dtype, ends = answer
    if isinstance(ends, Exception):
        raise ends
    state_type(cfg, str(dtype))
    if rule not in MEASURED:
        return [f'scale={rule} of {dtype} images']
    cfg.model.data_preprocessor.scale = ends
    return [
        f'scale={rule!r}: {ends} of {dtype} images, measured on at most {SAMPLE} of them, evenly '
        'spread; the config and the checkpoints of this run have the numbers'
    ]


def _measured(source: dict, rule: Scale) -> list[object]:
    """The type of most images, and low and high; None and the error where that fails."""
    try:
        with DefaultScope.overwrite_default_scope('a2mim'):
            built: Source = DATASETS.build(source)
        stats = measure(built, SAMPLE if rule in MEASURED else LOOKED_AT, skip_bad=True)
        return [stats.dtype, list(stats.resolve(rule))]
    except (ValueError, OSError) as error:
        return [None, error]


def state_type(cfg: Config, dtype: str) -> None:
    """Let every source refuse images of another type than the scale is for."""
    for source in sources(cfg):
        source.setdefault('dtype', dtype)


def check_pixels(runner: Runner) -> str:
    """Look at a few training images: their type, what they use of its range, missing values.

    Raises:
        ValueError: If they are of a type without a range, and the config states no scale.
    """
    source = getattr(runner.train_dataloader.dataset, 'source', None)
    if not hasattr(source, 'load_and_count'):
        return 'pixels: the images are no files'
    stats = measure(cast(Source, source), LOOKED_AT, skip_bad=True)
    low, high = stats.used_range()
    found = f'pixels: {stats.dtype}, mostly {low:g} to {high:g}, in {len(stats.sizes)} images'
    if scale_of(runner.cfg) == 'dtype' and (warning := _warning(stats, low, high)):
        runner.logger.warning(f'pixels: {warning}')
    missing = stats.filled_note()
    return f'{found}; {missing}' if missing else found


def _warning(stats: PixelStats, low: float, high: float) -> str | None:
    # All types: a float type among them is refused.
    return [range_warning(name, low, high) for name in (*stats.parts, stats.dtype)][-1]
