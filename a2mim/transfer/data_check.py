"""Mistakes in the data of a detector or segmentor, found before the first step.

``check_data`` compares the names in annotation files and the labels in up to ``LOOKED_AT`` masks
with the classes of the config and of the heads. MMDetection and MMSegmentation would train on other
classes than those named, or fail on a device without naming a file. The data sets themselves open
and load the files, without the augmentations; a data set of an unknown kind passes.

Axes: (H, W) pixels. A label is the value of a pixel of a mask, or the number of a box's class.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from mmengine import Config, fileio
from mmengine.dataset import BaseDataset
from PIL import Image

from a2mim.datasets.decoding import FORMATS
from a2mim.engine.config_check import abridged
from a2mim.registry import DATASETS, TRANSFORMS
from a2mim.transfer.data import WRAPPER

LOOKED_AT = 50  # annotations or masks of each data set, spread over all of it
IGNORED = 255  # the label of pixels without a class
DETECTION_HEADS = ('bbox_head', 'mask_head')
SEGMENTATION_HEADS = ('decode_head', 'auxiliary_head')


@dataclass(frozen=True)
class Data:
    """A data set of the config.

    Attributes:
        place: Its dotted name in the config.
        config: The entry of that name.
        dataset: Built from it, before it has read its annotations.
    """

    place: str
    config: dict
    dataset: Any

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels; none if the data set has none."""
        return list(self.dataset.metainfo.get('classes') or ())

    @property
    def training(self) -> bool:
        """Whether the model is trained on it."""
        return self.place.startswith('train')


def check_data(cfg: Config, splits: Iterable[str]) -> None:
    """Compare the data of ``splits`` with the classes of the config and its heads.

    Args:
        cfg: Of MMDetection or MMSegmentation; its scope is the current one.
        splits: Among 'train', 'val' and 'test'.

    Raises:
        FileNotFoundError: If an annotation file is missing.
        ValueError: If the data and the config contradict each other; it names the file, what is in
            it, what was expected, and the option to change.
    """
    first: Data | None = None
    for split in splits:
        for place, config in data_configs(cfg, split):
            with DATASETS.switch_scope_and_registry(None) as registry:
                kind = config.get('type')
                kind = registry.get(kind) if isinstance(kind, str) else kind
            # A wrapper is no BaseDataset.
            if not (isinstance(kind, type) and issubclass(kind, BaseDataset)):
                continue
            data = Data(place, config, DATASETS.build({**config, 'lazy_init': True}))
            if check_one(data, cfg.model):
                first = first or data
                check_same_labels(first, data)


def check_data_folders(cfg: Config, splits: Iterable[str]) -> None:
    """Find every ``data_root`` that the loaders of ``splits`` name, wrapped data sets included.

    Args:
        cfg: With ``train_dataloader``, ``val_dataloader`` and so on, where there are such.
        splits: Among 'train', 'val' and 'test'.

    Raises:
        FileNotFoundError: If one is no folder.
    """
    for split in splits:
        for place, config in data_configs(cfg, split):
            root = config.get('data_root')
            if root and not Path(root).is_dir():
                raise FileNotFoundError(
                    f'{place}.data_root={root}: there is no such folder; put the images there, or '
                    f'add {place}.data_root=DIR'
                )


def data_configs(cfg: Config, split: str) -> Iterator[tuple[str, dict]]:
    """Dotted name and config of every data set and wrapper below a loader, as a user wrote them."""
    entry = cfg.get(f'{split}_dataloader') or {}
    if not isinstance(entry, dict):
        raise TypeError(
            f'{split}_dataloader is a {type(entry).__name__}: give a dict; detectors and '
            'segmentors are validated on one set'
        )
    waiting = [(f'{split}_dataloader.dataset', entry.get('dataset'))]
    while waiting:
        place, config = waiting.pop(0)
        if config is None:
            continue
        if config.get('type') == WRAPPER:
            waiting.append((place, config['dataset']))
            continue
        yield place, config
        waiting.append((f'{place}.dataset', config.get('dataset')))
        several = enumerate(config.get('datasets') or ())
        waiting += [(f'{place}.datasets.{index}', one) for index, one in several]


def list_single_classes(cfg: Config) -> None:
    """Write a class name that is no list, such as ``classes=crack``, as a list of one name.

    pycocotools would look for the names of the file within it, and take each letter for a class. A
    string that is the path of a file stays: mmengine reads the names from there.
    """
    for split in ('train', 'val', 'test'):
        for _, config in data_configs(cfg, split):
            info = config.get('metainfo') or {}
            classes = info.get('classes')
            if isinstance(classes, str) and not Path(classes).is_file():
                info['classes'] = [classes]


def check_one(data: Data, model: dict) -> bool:
    """Check a data set of a known kind; return whether it is of one."""
    loader = getattr(type(data.dataset), 'load_data_list', None)
    owner = getattr(loader, '__qualname__', '').partition('.')[0]
    if owner == 'CocoDataset':
        check_heads(data, model, DETECTION_HEADS)
        check_coco(data, model)
    elif owner == 'XMLDataset':
        check_heads(data, model, DETECTION_HEADS)
        check_xml(data)
    elif hasattr(data.dataset, 'reduce_zero_label'):
        check_heads(data, model, SEGMENTATION_HEADS)
        check_masks(data, model)
    else:
        return False
    return True


def check_same_labels(first: Data, data: Data) -> None:
    """Refuse two data sets in which the same label means two things.

    Raises:
        ValueError: If so.
    """
    if first.classes != data.classes:
        raise ValueError(
            f'{data.place}.metainfo.classes are {abridged(data.classes)} ({len(data.classes)}), '
            f'{first.place}.metainfo.classes are {abridged(first.classes)} '
            f'({len(first.classes)}): a label would mean two things; give both the same names in '
            'the same order'
        )
    reduced = [getattr(one.dataset, 'reduce_zero_label', False) for one in (first, data)]
    if reduced[0] != reduced[1]:
        raise ValueError(
            f'{data.place}.reduce_zero_label is {reduced[1]}, {first.place}.reduce_zero_label is '
            f'{reduced[0]}: a label would mean two things; set it to the same value in both'
        )


def heads_of(model: dict, names: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Dotted name and config of every head among ``names`` that states ``num_classes``."""
    waiting: list[tuple[str, object]] = [('model', model)]
    while waiting:
        place, node = waiting.pop(0)
        if isinstance(node, Mapping):
            if place.rstrip('.0123456789').rpartition('.')[2] in names and 'num_classes' in node:
                yield place, dict(node)
            waiting += [(f'{place}.{key}', child) for key, child in node.items()]
        elif isinstance(node, list | tuple):
            waiting += [(f'{place}.{index}', child) for index, child in enumerate(node)]


def check_heads(data: Data, model: dict, names: Sequence[str]) -> None:
    """Refuse heads for another number of classes than the data set names.

    Raises:
        ValueError: If so.
    """
    count = len(data.classes)
    for place, head in heads_of(model, names):
        found = head['num_classes']
        # One score tells two classes apart.
        fits = (count, 1) if names == SEGMENTATION_HEADS and count == 2 else (count,)
        if count and found not in fits and not head.get('class_agnostic'):
            raise ValueError(
                f'{place}.num_classes={found}, but {data.place}.metainfo.classes has {count} '
                f'({abridged(data.classes)}); {class_options(model, names, data, data.classes)}'
            )


def class_options(model: dict, names: Sequence[str], data: Data, classes: Sequence[str]) -> str:
    """Advice: the options that make ``classes`` those of the heads and of the data."""
    options = [f'{place}.num_classes={len(classes)}' for place, _ in heads_of(model, names)]
    listed = ','.join(classes) if len(classes) < 10 else 'NAME,NAME,...'
    _, _, place = data.place.partition('_')
    options.append(f'{{train,val,test}}_{place}.metainfo.classes=[{listed}]')
    return f'pass {" ".join(options)}'


def check_coco(data: Data, model: dict) -> None:
    """Check the names and the annotations of a file in COCO's format.

    MMDetection numbers the classes in the order of the file, whatever the order of the config.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or a class has no category of its name in it, or the
            annotations belong to no category.
    """
    file, content = read_coco(data)
    names = [str(entry['name']) for entry in content['categories']]
    missing = [name for name in data.classes if name not in names]
    if missing:
        raise ValueError(
            f'{data.place}.metainfo.classes has {abridged(missing)}, and {file} has no such '
            f'category: its {len(names)} categories are {abridged(names)}; '
            f'{class_options(model, DETECTION_HEADS, data, names)}'
        )
    matched = [name for name in names if name in data.classes]
    if data.classes and matched != data.classes:
        raise ValueError(
            f'{data.place}.metainfo.classes are {abridged(data.classes)}, but {file} has them as '
            f'{abridged(matched)}, and labels are counted in the order of the file; '
            f'pass {data.place}.metainfo.classes=[{",".join(matched)}], without repeated names'
        )
    check_annotations(data, file, content)


def read_coco(data: Data) -> tuple[str, dict]:
    """Path and content of an annotation file; lists that it lacks are empty.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not of COCO's format.
    """
    file = data.dataset.ann_file
    try:
        content = json.loads(read_list(data))
    except ValueError as error:
        raise ValueError(
            f'{data.place}.ann_file={file} is no JSON ({error}); copy it again'
        ) from error
    keys = [*content] if isinstance(content, dict) else type(content).__name__
    if 'categories' not in keys or 'images' not in keys:
        raise ValueError(
            f'{data.place}.ann_file={file} has {keys}; expected are the lists images, annotations '
            "and categories of COCO's format"
        )
    return file, {'annotations': [], **content}


def read_list(data: Data) -> str:
    """The text of the annotation file of a data set.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    file = data.dataset.ann_file
    try:
        return fileio.get_text(file, backend_args=data.dataset.backend_args)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{data.place}.ann_file={file}: there is no such file; put it there, or pass '
            f'{data.place}.ann_file=FILE'
        ) from error


def check_annotations(data: Data, file: str, content: dict) -> None:
    """Refuse annotations of no category, none of the chosen categories, or none with a mask.

    Raises:
        ValueError: If so.
    """
    known = {entry['id'] for entry in content['categories']}
    chosen = {entry['id'] for entry in content['categories'] if entry['name'] in data.classes}
    stray = {entry['category_id'] for entry in content['annotations']} - known
    if stray:
        raise ValueError(
            f'{file} has annotations with category_id {numbers(stray)}; expected are the ids of '
            f'its categories, {numbers(known)}: MMDetection would leave them out; correct the file'
        )
    annotations = [entry for entry in content['annotations'] if entry['category_id'] in chosen]
    if not data.training:
        return
    if data.classes and not annotations:
        raise ValueError(
            f'{file} has {len(content["annotations"])} annotations, none of them of the classes '
            f'{abridged(data.classes)}: nothing can be learned from it; add annotations, or pass '
            f'the classes that it has as {data.place}.metainfo.classes=[NAME,...]'
        )
    looked_at = spread(annotations)
    masks = any(step.get('with_mask') for step in loading_steps(data.config))
    if masks and looked_at and not any(entry.get('segmentation') for entry in looked_at):
        raise ValueError(
            f'none of {len(looked_at)} annotations in {file} has a segmentation, and '
            f'{data.place}.pipeline loads masks (with_mask=True): annotate masks, or train a '
            'detector of boxes only'
        )


def check_xml(data: Data) -> None:
    """Refuse XML files, as those of PASCAL VOC, whose objects have none of the names.

    Raises:
        FileNotFoundError: If the list of images is missing.
        ValueError: If so.
    """
    folder = Path(data.dataset.sub_data_root) / data.dataset.ann_subdir
    names = {
        node.text or ''
        for image in spread(read_list(data).splitlines())
        if (folder / f'{image}.xml').is_file()
        for node in ElementTree.parse(folder / f'{image}.xml').iterfind('object/name')
    }
    if names and names.isdisjoint(data.classes):
        raise ValueError(
            f'{data.place}.metainfo.classes are {abridged(data.classes)}, but the objects in '
            f'{folder} are named {abridged(sorted(names))}; pass '
            f'{data.place}.metainfo.classes=[{",".join(sorted(names))}] and as many num_classes'
        )


def check_masks(data: Data, model: dict) -> None:
    """Check the labels in masks as MMSegmentation loads them.

    Raises:
        ValueError: If masks cannot be loaded, are no labels, are beyond the classes, or know at
            most one class.
    """
    check_zero_label(data)
    heads = [*heads_of(model, SEGMENTATION_HEADS)]
    samples = data.dataset.load_data_list()
    if not heads or not samples:
        return
    # Two labels at least: a head with one score has the labels 0 and 1.
    limit = max(2, min(head['num_classes'] for _, head in heads))
    ignored = {head.get('ignore_index', IGNORED) for _, head in heads}
    steps = [TRANSFORMS.build(step) for step in loading_steps(data.config, wrapped=True)]
    found = set()
    for file, mask in loaded_masks(data, spread(samples), steps):
        labels = {int(label) for label in np.unique(label_map(data, file, mask))}
        check_labels(data, file, labels - ignored, limit)
        found |= labels
    if len(found - ignored) >= 2 or not found:
        return
    for _, mask in loaded_masks(data, samples, steps):  # something rare, perhaps
        found |= {int(label) for label in np.unique(mask)}
        if len(found - ignored) >= 2:
            return
    if data.training or found & ignored:
        refuse_one_class(data, str(samples[0]['seg_map_path']), found - ignored, found & ignored)


def check_zero_label(data: Data) -> None:
    """Refuse ``reduce_zero_label`` with two values, in the data set and in its pipeline.

    Raises:
        ValueError: If so.
    """
    own = data.dataset.reduce_zero_label
    for step in loading_steps(data.config):
        value = step.get('reduce_zero_label')
        if value is not None and value != own:
            index = [*loading_steps(data.config, every=True)].index(step)
            raise ValueError(
                f'{data.place}.reduce_zero_label is {own}, but {data.place}.pipeline.{index}.'
                f'reduce_zero_label is {value} in {step["type"]}: set both to True if 0 in the '
                'masks is no class, to False if it is one'
            )


def loading_steps(config: dict, wrapped: bool = False, every: bool = False) -> Iterator[dict]:
    """The steps of a pipeline that load files; of ``CheckedLoading`` what it wraps.

    Args:
        config: Of a data set.
        wrapped: Leave ``CheckedLoading`` around them.
        every: The other steps too.
    """
    for step in config.get('pipeline') or ():
        inner = step.get('load', step)
        if every or str(inner.get('type')).rpartition('.')[2].startswith('Load'):
            yield step if wrapped else inner


def loaded_masks(
    data: Data, samples: Sequence[dict], steps: Sequence[Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """File and labels (H, W), or what was loaded in their place, of every sample with a mask.

    Raises:
        ValueError: If none of several, or one that is not trained on, can be loaded.
    """
    failed = 0
    for sample in samples:
        results: Any = {**sample, 'seg_fields': []}
        try:
            for step in steps:
                results = step(results)
        except Exception as error:  # decoders raise errors of many types
            failed += 1
            # Training takes another image in place of a bad one, evaluation does not.
            if not data.training or failed == len(samples):
                raise ValueError(
                    f'{data.place}: {failed} of {failed} masks or images cannot be loaded, such as '
                    f'{sample.get("seg_map_path")} of {sample["img_path"]}: {error}'
                ) from error
            continue
        if 'gt_seg_map' in results:
            check_size(sample, results)
            yield str(sample['seg_map_path']), results['gt_seg_map']


def check_size(sample: dict, results: dict) -> None:
    """Refuse a mask of another size than its image, and one whose values need more than 8 bits.

    Raises:
        ValueError: If so.
    """
    mask, image, file = results['gt_seg_map'], results.get('img'), sample['seg_map_path']
    if image is not None and mask.ndim == 2 and mask.shape != image.shape[:2]:
        raise ValueError(
            f'{file} has {mask.shape[1]}x{mask.shape[0]} pixels, its image {sample["img_path"]} '
            f'has {image.shape[1]}x{image.shape[0]}; expected is a label for every pixel'
        )
    if mask.dtype != np.uint8:
        return
    try:
        with Image.open(file, formats=FORMATS) as stored:
            values = np.asarray(stored)
    except OSError:  # a format that Pillow does not read
        return
    if values.min() < 0 or values.max() > 255:
        raise ValueError(
            f'{file} has values from {values.min()} to {values.max()}, of which MMSegmentation '
            'keeps 8 bits; expected are labels from 0 to 255'
        )


def label_map(data: Data, file: str, mask: np.ndarray) -> np.ndarray:
    """``mask`` (H, W) itself.

    Raises:
        ValueError: If it has other axes: colours in place of labels.
    """
    if mask.ndim == 2:
        return mask
    colours = np.unique(mask.reshape(-1, mask.shape[-1])[:, 2::-1], axis=0).tolist()
    raise ValueError(
        f'{data.place}: {file} is an image of {mask.shape[-1]} channels with the colours '
        f'{abridged([str(tuple(colour)) for colour in colours])}; expected is one channel of '
        'labels: 0 for the first class, 1 for the second, 255 for pixels to ignore. Convert the '
        'masks, for example to PNG files of one channel'
    )


def check_labels(data: Data, file: str, labels: set[int], limit: int) -> None:
    """Refuse labels from ``limit`` on.

    Raises:
        ValueError: If there are any.
    """
    beyond = {label for label in labels if label >= limit}
    if not beyond:
        return
    reduced = data.dataset.reduce_zero_label
    from_one = not reduced and max(labels) == limit and 0 not in labels
    raise ValueError(
        f'{data.place}: {file} has the labels {numbers(beyond)}'
        f'{" after reduce_zero_label" if reduced else ""}; expected are 0 to {limit - 1} for '
        f'{limit} classes, and {IGNORED} for pixels to ignore. '
        + (
            f'Pass {data.place}.reduce_zero_label=True if 0 is no class'
            if from_one
            else 'Correct the masks, or give the heads num_classes and the data '
            'metainfo.classes that have them'
        )
    )


def refuse_one_class(data: Data, file: str, labels: set[int], ignored: set[int]) -> None:
    """Refuse masks with one class: there is nothing to tell apart.

    Raises:
        ValueError: Always.
    """
    reduced = data.dataset.reduce_zero_label
    what = f'the label {numbers(labels)}' if labels else 'no label'
    lost = ', where 0 is ignored because of reduce_zero_label=True' if reduced else ''
    raise ValueError(
        f'{data.place}: all masks, such as {file}, have {what}'
        f'{f" and {numbers(ignored)}, which is ignored" if ignored else ""}{lost}; expected are '
        f'labels of two classes or more: write 0 for the first class, 1 for the second into the '
        'masks' + (f', or pass {data.place}.reduce_zero_label=False if 0 is one' if reduced else '')
    )


def spread(items: Sequence[Any]) -> list[Any]:
    """``LOOKED_AT`` of ``items``, evenly from the first to the last, or all if there are fewer."""
    if len(items) <= LOOKED_AT:
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, LOOKED_AT)]


def numbers(values: Iterable[int]) -> str:
    """The smallest values, for a message."""
    return abridged([str(value) for value in sorted(values)])
