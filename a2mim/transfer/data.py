"""The training data of detectors and segmentors: resumed bit for bit, bad images replaced.

MMDetection and MMSegmentation draw augmentations from the global random generators of the worker
that loads an image, and start an epoch at its first batch only. ``prepare_data`` edits a config so
that

- a training sample is a function of the seed and its ``SampleKey`` (epoch, index, repeat);
- a loader starts after any number of batches, without loading those before;
- an image that cannot be loaded is replaced by another one, counted and listed.
"""

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from mmengine import Config
from mmengine.dataset import BaseDataset
from torch.utils.data import BatchSampler, Dataset, Sampler

from a2mim.datasets.datasets import NUM_TRIALS, find_loader
from a2mim.datasets.decoding import SHORTAGES
from a2mim.datasets.image_files import PROBES
from a2mim.datasets.samplers import EpochSampler, SampleKey
from a2mim.datasets.storage import PATIENCE, Storage
from a2mim.errors import BadDataError, StorageError
from a2mim.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS

WRAPPER = 'a2mim.SeededDataset'
SAMPLERS = {
    'DefaultSampler': 'a2mim.EpochSampler',
    'EpochSampler': 'a2mim.EpochSampler',
    'InfiniteSampler': 'a2mim.InfiniteEpochSampler',
    'InfiniteEpochSampler': 'a2mim.InfiniteEpochSampler',
}
BATCH_SAMPLERS = ('AspectRatioBatchSampler',)
# These pass the images and their annotations to the model, and drop ``unreadable``.
PREPROCESSORS = ('DetDataPreprocessor', 'SegDataPreProcessor')
# Types that depend on earlier samples, on the epoch, or on a generator of their own.
STATEFUL = (
    'Albu',
    'BatchSyncRandomResize',
    'CachedMixUp',
    'CachedMosaic',
    'MultiImageMixDataset',
    'PipelineSwitchHook',
    'YOLOXModeSwitchHook',
)


def prepare_data(cfg: Config) -> str | None:
    """Make the training data resumable within an epoch and replace bad images.

    A config with a part that cannot be resumed exactly is left unchanged; the line for the log that
    is returned says why. A config that is prepared already is left unchanged, too.

    Args:
        cfg: Config of MMDetection or MMSegmentation with ``train_dataloader``, changed in place.
    """
    loader = cfg.train_dataloader
    if loader.dataset.type == WRAPPER:
        return None
    obstacle = _find_obstacle(cfg)
    if obstacle:
        return (
            f'{obstacle}: exact resume is not promised. A run resumed within an epoch may train on '
            'other images than an uninterrupted one, and an image that cannot be read ends it'
        )
    seed = cfg.get('randomness', {}).get('seed') or 0
    loader.sampler.type = SAMPLERS[_name(loader.sampler)]
    loader.sampler.seed = seed
    if loader.get('batch_sampler'):
        inner = loader.batch_sampler
        loader.batch_sampler = dict(type='a2mim.StartableBatchSampler', batches=inner)
    patience = ((cfg.get('default_hooks') or {}).get('bad_images') or {}).get('patience')
    for checked in filter(None, (loader, cfg.get('val_dataloader'))):
        _check_loading(checked.dataset, patience)
    loader.dataset = dict(
        type=WRAPPER, dataset=loader.dataset, seed=seed, on_bad_image='substitute'
    )
    return None


def _find_obstacle(cfg: Config) -> str | None:
    """The part of ``cfg`` that cannot be resumed exactly, None if there is none."""
    loader, preprocessor = cfg.train_dataloader, cfg.model.get('data_preprocessor') or {}
    parts = [
        ('train_dataloader.sampler', loader.sampler, SAMPLERS),
        ('train_dataloader.batch_sampler', loader.get('batch_sampler'), BATCH_SAMPLERS),
        ('model.data_preprocessor', preprocessor, PREPROCESSORS),
    ]
    for place, part, known in parts:
        if part is not None and _name(part) not in known:
            return f'{place}.type={_name(part)} is not one of {[*known]}'
    for node in _dicts([loader.dataset, preprocessor, cfg.get('custom_hooks')]):
        if _name(node) in STATEFUL:
            return f'{_name(node)} makes samples depend on what was loaded before'
    return None


def _name(node: dict) -> str:
    """The type of a config, without its scope; '' if it has none."""
    kind = node.get('type', '')
    return getattr(kind, '__name__', kind).rpartition('.')[2]


def _dicts(node: object) -> Iterator[dict]:
    """Every dict in nested dicts and lists, outer ones first."""
    if isinstance(node, dict):
        yield node
        node = [*node.values()]
    if isinstance(node, list | tuple):
        for item in node:
            yield from _dicts(item)


def _check_loading(dataset: dict, patience: float | None) -> None:
    """Wrap every ``Load...`` step of every pipeline below ``dataset``."""
    for node in [*_dicts(dataset)]:
        if 'pipeline' in node:
            node['pipeline'] = [
                dict(type='a2mim.CheckedLoading', load=step, patience=patience)
                if _name(step).startswith('Load')
                else step
                for step in node['pipeline']
            ]


class BadFileError(BadDataError):
    """A file of an image cannot be loaded.

    Attributes:
        image: The path of the image.
    """

    image = ''


@TRANSFORMS.register_module()
class CheckedLoading:
    """A step of a pipeline that loads files; its errors name the files.

    Args:
        load: Config of the step, such as ``dict(type='LoadImageFromFile')``.
        patience: Seconds for which a storage that does not answer is asked again; None for 300.

    Raises:
        BadFileError: If it fails, unless the machine ran out of memory or file handles.
        StorageError: If no file of the folder can be read, for ``patience`` seconds.
    """

    def __init__(self, load: dict, patience: float | None = None) -> None:
        self.load = TRANSFORMS.build(load)
        self.storage = Storage('', PATIENCE if patience is None else patience)

    def __call__(self, results: dict) -> dict | None:
        """Apply the step."""
        folder = self.storage.where = os.path.dirname(str(results['img_path']))
        try:
            return self.storage.read(partial(self.load, results), partial(_answers, folder))
        except (MemoryError, StorageError):
            raise
        except Exception as error:  # decoders raise errors of many types
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                raise
            image = str(results['img_path'])
            files = [image, *filter(None, [results.get('seg_map_path')])]
            reason = str(error) or type(error).__name__
            bad = BadFileError(f'{type(self.load).__name__} cannot load {files}: {reason}')
            bad.image = image
            raise bad from error


def _answers(folder: str) -> bool:
    """Whether a file of ``folder`` can be read."""
    try:
        with os.scandir(folder) as entries:
            for entry in itertools.islice((each for each in entries if each.is_file()), PROBES):
                with suppress(OSError), open(entry.path, 'rb') as file:
                    file.read(1)
                    return True
    except OSError:
        pass
    return False


@contextmanager
def seeded_generators(rng: np.random.Generator) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global CPU generators from ``rng``, then restore them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = [int(word) for word in rng.integers(2**32, size=3)]
    random.seed(words[0])
    np.random.seed(words[1])
    # torch.manual_seed would seed the GPUs too.
    torch.default_generator.manual_seed(words[2])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A data set of OpenMMLab whose samples are functions of the seed and the sample's key.

    Other attributes are those of the wrapped data set. Where the pipeline returns None, such as for
    a crop without objects, the wrapped data set draws another image, from the seeded generators.

    Args:
        dataset: Config of a data set, or of a wrapper such as ``RepeatDataset``.
        seed: Together with the sample's key it determines every random draw.
        on_bad_image: What follows from an image that cannot be loaded: 'raise' an error, or
            'substitute' another image.

    Raises:
        FileNotFoundError: If the folder of the first image is missing.
        ValueError: If ``on_bad_image`` is unknown.
        BadDataError: If an image cannot be loaded and is not substituted.
    """

    def __init__(self, dataset: dict, seed: int = 0, *, on_bad_image: str = 'raise') -> None:
        self.dataset: BaseDataset = DATASETS.build(dataset)
        folder = os.path.dirname(self.name(0)) if len(self.dataset) else ''
        # In training a folder that is missing is one whose storage does not answer.
        if folder and not os.path.isdir(folder):
            raise FileNotFoundError(
                f'{self.name(0)}: there is no folder {folder}; put the images there, or set '
                'data_root and data_prefix of the data set'
            )
        self.seed = seed
        # The loaders are typed for sources of images; they hand on whatever ``load`` gives.
        self._load: Callable[..., tuple[dict, int, dict]] = cast(Any, find_loader(on_bad_image))

    @property
    def source(self) -> 'SeededDataset':
        """The source of images that ``BadImagesHook`` reads again and names."""
        return self

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | SampleKey) -> dict:
        key = SampleKey.of(key)
        with seeded_generators(key.generator(self.seed)):
            sample, _, note = self._load(self, key, self.seed)
        return {**sample, **note}

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset' or name.startswith('__'):  # not set yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def get_data_info(self, key: int | SampleKey) -> dict:
        """The annotation of an image."""
        return self.dataset.get_data_info(SampleKey.of(key).index)

    def name(self, index: int) -> str:
        """The path of an image."""
        return str(self.get_data_info(index)['img_path'])

    def load(self, index: int) -> dict:
        """The sample of an image, augmented from the global generators.

        Raises:
            BadDataError: If a file of the image cannot be loaded.
        """
        for _ in range(NUM_TRIALS):
            try:
                return self.dataset[index]
            except BadFileError as error:
                # The pipeline may have returned None for this image, and the bad one replaced it.
                if error.image == self.name(index):
                    raise
        raise BadDataError(
            f'the pipeline returns None for {self.name(index)!r}, and {NUM_TRIALS} images drawn '
            'in its place cannot be loaded'
        )


@DATA_SAMPLERS.register_module()
class StartableBatchSampler(Sampler[list[SampleKey]]):
    """Another batch sampler, started at any of its batches.

    The batches before are formed from indices alone, since images wait in its buckets for others of
    their aspect ratio; no image is loaded.

    Args:
        sampler: Yields the keys of the samples.
        batch_size: Images per batch.
        batches: Config of the batch sampler, such as ``dict(type='AspectRatioBatchSampler')``.
    """

    start = 0

    def __init__(self, sampler: EpochSampler, batch_size: int, batches: dict) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        options = dict(sampler=sampler, batch_size=batch_size)
        self._batches: BatchSampler = DATA_SAMPLERS.build(batches, default_args=options)

    def start_at(self, batch: int) -> None:
        """Start the current pass, and each later one, at the ``batch``-th batch."""
        self.start = batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        kind, drop_last = type(self._batches), self._batches.drop_last
        # A new one for each pass: the buckets of an abandoned pass must not leak into the next.
        batches = iter(kind(self.sampler, self.batch_size, drop_last))
        return itertools.islice(cast(Iterator[list[SampleKey]], batches), self.start, None)

    def __len__(self) -> int:
        return len(self._batches)
