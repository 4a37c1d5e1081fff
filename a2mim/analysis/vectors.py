"""Features of many images, one vector each, in one file: read in parallel, resumed after a kill.

Axes: N images, D features, C channels, (H, W) pixels.
"""

import importlib
import io
import json
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils.data import Dataset

from a2mim.analysis.networks import fingerprint
from a2mim.analysis.results import PartStore, packed, progress
from a2mim.datasets.archives import open_source
from a2mim.datasets.decoding import IMAGE_SUFFIXES
from a2mim.datasets.image_files import ImageFiles, StoredImages
from a2mim.engine.workers import PatientLoader
from a2mim.errors import BadDataError
from a2mim.inference import evaluating, features_of, fit_image, input_of, normalized
from a2mim.interfaces import Algorithm
from a2mim.weights.files import write_atomically
from a2mim.weights.load_model import load_model

SUFFIXES = ('.npz', '.parquet')
SECONDS = 2.0  # from one saved part to the next: what a kill loses
SETTINGS = 'settings'


class Vectors(NamedTuple):
    """What ``embed`` returns.

    Attributes:
        vectors: (N, D), float32, of the images that can be read.
        names: Their N names, below the folder or as they are in the list.
        unreadable: Of the other images, the reason by name.
    """

    vectors: np.ndarray
    names: list[str]
    unreadable: dict[str, str]


def embed(
    images: str | Path | Iterable[str | Path],
    model: nn.Module | str | Path,
    out: str | Path | None = None,
    *,
    batch_size: int = 64,
    workers: int = 2,
    device: str | torch.device | None = None,
    force: bool = False,
) -> Vectors:
    """Pooled features of many images, as of ``features(…, pooled=True)``.

    Worker processes read the images. With ``out``, finished parts are kept in ``OUT.parts`` every
    two seconds, so that the same call resumes; they are removed once OUT is complete. A complete
    OUT of the same images and weights is read back.

    Args:
        images: A folder of images or shards; a list file, its paths relative to its folder; an
            image; or paths, in a list or another iterable.
        model: From ``load_model``, or what it takes.
        out: File for the vectors, ``.npz`` or, with pyarrow installed, ``.parquet``; None: none.
        batch_size: Images in a forward pass.
        workers: Processes that read; 0 reads in this one.
        device: To compute on; None: where the model is.
        force: Replace OUT if it holds vectors of other images or weights.

    Raises:
        ValueError, TypeError: If ``out`` has another suffix, or an argument is none of these.
        FileNotFoundError: If there are no images.
        FileExistsError: If OUT is there, of other images or weights.
        ImportError: If pyarrow is missing.
        BadDataError: If no image can be read.
    """
    if batch_size < 1 or workers < 0:
        raise ValueError(f'batch_size={batch_size} must be at least 1, workers={workers} 0 or more')
    path = None if out is None else checked_path(Path(out))
    network = model if isinstance(model, nn.Module) else load_model(model)
    network.to(device)
    source = open_images(images, network)
    settings = settings_of(source, network)
    if path is not None and path.exists() and not force:
        found = read_vectors(path, settings)
        shutil.rmtree(parts_folder(path), ignore_errors=True)  # of a call killed at its very end
        return found
    store = None if path is None else open_parts(path, settings)
    with evaluating(network):
        parts = list(measured(source, network, store, batch_size, workers))
    found = as_vectors(merged(parts))
    if not found.names:
        name, reason = next(iter(found.unreadable.items()))
        raise BadDataError(
            f'none of the {len(source)} images can be read, such as {name}: {reason}'
        )
    if path is not None:
        write_vectors(found, path, settings)
        shutil.rmtree(parts_folder(path))
    return found


def checked_path(path: Path) -> Path:
    """``path`` itself, in a folder that is made if it is missing, if vectors can be written there.

    Raises:
        ValueError, IsADirectoryError, ImportError: If they cannot.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path} must end in {" or ".join(SUFFIXES)}')
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; give the name of a file')
    if path.suffix == '.parquet':
        _pyarrow('parquet')
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def open_images(images: str | Path | Iterable[str | Path], model: nn.Module) -> StoredImages:
    """The source of ``images``, with the channels and the layout that ``model`` wants."""
    channels, _, layout = input_of(model)
    if isinstance(images, str | Path):
        place = Path(images).expanduser()
        if place.is_file() and not place.name.lower().endswith(IMAGE_SUFFIXES):
            return open_source(str(place.parent), str(place), channels=channels, **layout)
        if not place.is_file():
            return open_source(str(place), channels=channels, **layout)
        images = [place]
    images = list(images)
    wrong = [type(one).__name__ for one in images if not isinstance(one, str | os.PathLike)]
    if wrong:
        raise TypeError(f'embed takes paths, not a {wrong[0]}; a2mim.features takes pixels')
    if not images:
        raise FileNotFoundError('the list of images is empty')
    return ImageFiles(
        os.curdir, [os.fspath(one) for one in images], None, (), channels=channels, **layout
    )


def name_of(source: StoredImages, index: int) -> str:
    """The name of an image below the root of its source, or as the list of its source has it."""
    if isinstance(source, ImageFiles):
        return os.fsdecode(source.entries[index])
    return os.path.relpath(source.name(index), source.root)


def settings_of(source: StoredImages, model: nn.Module) -> dict[str, str]:
    """What vectors depend on: images by name, size and time of change; weights; preparation."""
    files = (source.name(index) for index in range(len(source)))
    if not isinstance(source, ImageFiles):  # the archives of a folder
        files = sorted(entry.path for entry in os.scandir(source.root))
    checksum = 0
    for index, file in enumerate(files):
        known = isinstance(source, ImageFiles)
        name = name_of(source, index) if known else os.path.basename(file)
        checksum = zlib.crc32(
            f'{name}\n{_state(file)}\n'.encode(errors='surrogateescape'), checksum
        )
    preprocessor = cast(Algorithm, model).data_preprocessor
    values = {name: getattr(preprocessor, name).flatten().tolist() for name in ('mean', 'std')}
    return dict(
        images=f'{len(source)} ({checksum:08x})',
        weights=f'{type(model).__name__} {fingerprint(model.state_dict())}',
        input=json.dumps([*input_of(model), values, preprocessor.scale]),
    )


def _state(file: str) -> str:
    try:
        status = os.stat(file)
    except OSError:
        return 'missing'
    return f'{status.st_size} {status.st_mtime_ns}'


def parts_folder(path: Path) -> Path:
    """Where finished parts wait for the others."""
    return path.with_name(f'{path.name}.parts')


def open_parts(path: Path, settings: Mapping[str, str]) -> PartStore:
    """The store of finished parts; parts of other images or weights are removed, and it says so."""
    store = PartStore(parts_folder(path), 'vectors', settings)
    others = [folder for folder in store.folder.parent.iterdir() if folder != store.folder]
    if others:
        print_log(f'{path}: images or weights have changed: all is computed again', 'current')
    for folder in others:
        shutil.rmtree(folder)
    return store


class FittedImages(Dataset):
    """Name of each image, and its pixels (C, H, W) or the reason why it cannot be read."""

    def __init__(self, source: StoredImages, size: tuple[int, int]) -> None:
        self.source, self.size = source, size

    def __getitem__(self, index: int) -> tuple[str, Tensor | str]:
        name = name_of(self.source, index)
        try:
            return name, fit_image(self.source.load(index), self.size)
        except BadDataError as error:
            return name, str(error)


def collate(
    samples: list[tuple[str, Tensor | str]],
) -> tuple[list[str], Tensor | list[Tensor], list[str]]:
    """Names, the images that can be read, and for each name the reason why it cannot, or ''."""
    images = [image for _, image in samples if isinstance(image, Tensor)]
    reasons = ['' if isinstance(image, Tensor) else image for _, image in samples]
    # Each tensor that a worker sends takes a file descriptor.
    one_type = len({image.dtype for image in images}) == 1
    return [name for name, _ in samples], torch.stack(images) if one_type else images, reasons


def measured(
    source: StoredImages, model: nn.Module, store: PartStore | None, batch_size: int, workers: int
) -> Iterator[dict[str, np.ndarray]]:
    """The parts in order, those of the store first: arrays ``vectors``, ``names``, ``reasons``.

    A part is named by its first image and says where it stops, so that a part may have any length.
    """
    done = 0
    while store is not None and (part := store.read(f'from_{done}')) is not None:
        done = int(part['stop'])
        yield part
    if store is not None and done:
        print_log(f'{done} of {len(source)} images are done already', 'current')
    starts = range(done, len(source), batch_size)
    spans = [[*range(start, min(start + batch_size, len(source)))] for start in starts]
    loader: Any = PatientLoader(
        FittedImages(source, input_of(model)[1]),
        batch_sampler=spans,
        num_workers=min(workers, len(spans)),
        collate_fn=collate,
    )
    pending, saved = [], time.monotonic()
    for span, batch in zip(progress(spans, 'images'), loader, strict=True):
        pending.append(measure(model, *batch))
        if time.monotonic() - saved >= SECONDS or span is spans[-1]:
            part = {**merged(pending), 'stop': np.array(span[-1] + 1)}
            yield part if store is None else store.save(f'from_{done}', part)
            pending, saved, done = [], time.monotonic(), span[-1] + 1


def measure(
    model: nn.Module, names: list[str], images: Tensor | list[Tensor], reasons: list[str]
) -> dict[str, np.ndarray]:
    """The arrays of a batch: ``vectors`` of the images that can be read, all names and reasons."""
    found = np.empty((0, 0), np.float32)
    if len(images):
        batch = normalized(model, list(images))
        found = features_of(model, batch, pooled=True).float().cpu().numpy()
    return dict(vectors=found, names=np.array(names), reasons=np.array(reasons))


def merged(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of several parts as those of one; a part without vectors has no width."""
    arrays = {key: [part[key] for part in parts] for key in ('vectors', 'names', 'reasons')}
    return {
        key: np.concatenate([array for array in found if len(array)] or found[:1])
        for key, found in arrays.items()
    }


def as_vectors(arrays: Mapping[str, np.ndarray]) -> Vectors:
    """Names and reasons apart."""
    names, reasons = arrays['names'].tolist(), arrays['reasons'].tolist()
    pairs = list(zip(names, reasons, strict=True))
    good = [name for name, reason in pairs if not reason]
    return Vectors(arrays['vectors'], good, {name: reason for name, reason in pairs if reason})


def write_vectors(found: Vectors, path: Path, settings: Mapping[str, str]) -> None:
    """Write NPZ (``vectors``, ``names``, ``unreadable``, ``reasons``), or Parquet (image a row)."""
    text = json.dumps(settings)
    if path.suffix == '.npz':
        lists = dict(names=found.names, unreadable=[*found.unreadable])
        lists |= dict(reasons=[*found.unreadable.values()], settings=text)
        arrays = {key: np.array(value, dtype=str) for key, value in lists.items()}
        content = packed(dict(vectors=found.vectors, **arrays))
        write_atomically(path, lambda file: file.write(content))
        return
    arrow, parquet = _pyarrow(''), _pyarrow('parquet')
    names = [os.fsencode(name).decode(errors='replace') for name in found.names]
    flat = arrow.array(found.vectors.ravel())
    columns = [names, arrow.FixedSizeListArray.from_arrays(flat, found.vectors.shape[1])]
    notes = {SETTINGS: text, 'unreadable': json.dumps(found.unreadable)}
    table = arrow.table(columns, names=['name', 'vector']).replace_schema_metadata(notes)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def read_vectors(path: Path, settings: Mapping[str, str]) -> Vectors:
    """The vectors in a file of ``write_vectors``.

    Raises:
        FileExistsError: If it holds others than those of ``settings``, or something else.
    """
    try:
        if path.suffix == '.npz':
            with np.load(path, allow_pickle=False) as stored:
                found, text = {key: stored[key] for key in stored.files}, str(stored[SETTINGS])
            bad = dict(zip(found['unreadable'].tolist(), found['reasons'].tolist(), strict=True))
            vectors = Vectors(found['vectors'], found['names'].tolist(), bad)
        else:
            table = _pyarrow('parquet').read_table(path)
            notes = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
            rows, text = table['vector'].combine_chunks(), notes[SETTINGS]
            values = rows.values.to_numpy().reshape(len(rows), -1)
            vectors = Vectors(values, table['name'].to_pylist(), json.loads(notes['unreadable']))
        same = json.loads(text) == settings
    except (KeyError, ValueError, TypeError, AttributeError, OSError, zipfile.BadZipFile):
        same = False
    if not same:
        raise FileExistsError(
            f'{path} is there, and not of these images and weights; choose another name, or add '
            '--force to replace it'
        )
    print_log(f'{path} is complete: {len(vectors.names)} vectors', 'current')
    return vectors


def _pyarrow(module: str) -> ModuleType:
    try:
        return importlib.import_module(f'pyarrow.{module}'.rstrip('.'))
    except ImportError as error:
        raise ImportError('.parquet needs pyarrow: pip install pyarrow, or write .npz') from error
