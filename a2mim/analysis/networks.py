"""A network to look into.

Axes: B batch, C channels, (H, W) pixels.
"""

import argparse
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models.hiera import Hiera
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from a2mim.analysis.images import PHOTOS, AnalysisImages
from a2mim.analysis.results import PartStore, Results, progress
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.timm_backbone import load_trunk
from a2mim.weights.load_model import SUFFIXES, NoRecipeError, load_model
from a2mim.weights.names import trunk_state
from a2mim.weights.released import list_models
from a2mim.weights.safe_load import add_trust_option, load_file, trust_checkpoints


@dataclass(frozen=True)
class Subject:
    """One column of a figure.

    Measurements run it under ``torch.no_grad``, not in inference mode: some of timm's networks
    (ConViT) keep a tensor of one pass for the next, which may need a gradient.

    Attributes:
        label: What figures and tables call it.
        source: What it was read from, as it was given.
        model: A plain timm model in evaluation mode, a trunk or with its classifier.
        preprocessor: Makes normalised batches of uint8 images, and pictures of them.
        image_size: (H, W) that it was trained on.
        whole: Of a checkpoint, what ``a2mim.load_model`` returns: ``A2MIM``, ``SimMIM`` or
            ``ImageClassifier`` around ``model``, or the ``TimmBackbone``; None for a timm model.
    """

    label: str
    source: str
    model: nn.Module
    preprocessor: ImagePreprocessor
    image_size: tuple[int, int]
    whole: nn.Module | None = None

    @property
    def num_classes(self) -> int:
        """Classes that ``model`` tells apart, 0 for a trunk."""
        return self.model.num_classes

    @property
    def channels(self) -> int:
        """C of its images."""
        return len(self.preprocessor.mean)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.preprocessor.mean.device

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) anywhere to the batch that ``model`` wants, on its device."""
        return self.preprocessor(dict(image=pixels.to(self.device)))['image']

    @property
    def has_decoder(self) -> bool:
        """Whether it reconstructs images: ``whole`` has what pre-training has behind the trunk."""
        return hasattr(self.whole, 'neck') and hasattr(self.whole, 'predict')

    def fingerprint(self) -> str:
        """Of all its weights, see ``fingerprint``."""
        return fingerprint((self.model if self.whole is None else self.whole).state_dict())


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Eight hexadecimal digits that change with any name or number."""
    check = 0
    for name, tensor in tensors.items():
        check = zlib.crc32(name.encode(), check)
        check = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).numpy(), check)
    return f'{check:08x}'


# [sources]
# Networks by name or file, and their random twins.


RANDOM = 'random:'


def read_subject(text: str, device: str | torch.device = 'cpu', seed: int = 0) -> Subject:
    """``[LABEL=][random:]SOURCE`` to a network on ``device``.

    Args:
        text: SOURCE is one of
            - a file of weights that says which model it holds, or a released name: what
              ``a2mim.load_model`` takes;
            - a config, which has random weights only;
            - the name of a timm model, whose weights timm downloads;
            - NAME:FILE, a timm model with the trunk, and classifier if there is one, of a file.
            The label is SOURCE without folders and suffix, unless it is given.
        device: Where to compute.
        seed: Of random weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of a network, or timm has no such model.
        ConnectionError: If timm cannot download the weights.
    """
    given, source = split_label(text)
    label = given or source_name(source)
    random = source.startswith(RANDOM)
    name = source.removeprefix(RANDOM)
    torch.manual_seed(seed)
    timm_name, file = _split_file(name)
    if timm_name:
        subject = _from_timm(label, source, timm_name, random, file)
    elif Path(name).suffix in (*SUFFIXES, '.py') or Path(name).exists() or name in list_models():
        subject = _from_ours(label, source, name, random)
    else:
        subject = _from_timm(label, source, name, random)
    # Convolutions are faster so, see docs/benchmarks.md.
    convert_conv2d_weight_memory_format(subject.model.to(device), torch.channels_last)
    subject.preprocessor.to(device)
    if subject.whole is not None:
        subject.whole.to(device)
    return subject


def split_label(text: str) -> tuple[str, str]:
    """``LABEL=SOURCE`` to both; the label is empty where none is given."""
    # A path may hold a sign of equality, but no label a slash.
    label, sign, source = text.partition('=')
    return (label, source) if sign and label and '/' not in label else ('', text)


def source_name(source: str) -> str:
    """What figures call a network without a label."""
    random = 'random ' if source.startswith(RANDOM) else ''
    path = Path(_split_file(source.removeprefix(RANDOM))[1])
    # latest.pth says nothing: the run does.
    name = path.parent.name if path.stem == 'latest' and path.parent.name else path.stem
    return f'{random}{name}'


def _split_file(name: str) -> tuple[str, str]:
    """``NAME:FILE`` to both; the first is empty where no model of timm is named."""
    timm_name, sign, file = name.partition(':')
    return (timm_name, file) if sign and timm.is_model(timm_name) else ('', name)


def similar_models(name: str) -> str:
    """What to say to a person who asked for a timm model that there is not."""
    known = get_close_matches(name.split('.')[0], timm.list_models(), n=5)
    return f'similar names: {", ".join(known)}' if known else 'timm.list_models() has all names'


def _from_ours(label: str, source: str, name: str, random: bool) -> Subject:
    if name.endswith('.py') and not random:
        raise ValueError(
            f'{source}: a config has no weights; write {RANDOM}{name} for random ones, or give the '
            'checkpoint of its run'
        )
    try:
        whole = load_model(name, pretrained=not random)
    except NoRecipeError as error:
        raise ValueError(
            f'{error}; here, write NAME:{name} with the name of its timm model, such as '
            f'resnet50:{name}'
        ) from error
    backbone = getattr(whole, 'backbone', whole)
    size = whole.input_spec.image_size
    return Subject(label, source, backbone.model, whole.data_preprocessor, size, whole)


def _from_timm(label: str, source: str, name: str, random: bool, file: str = '') -> Subject:
    if not timm.is_model(name):
        raise ValueError(f'{source}: neither a file nor a timm model; {similar_models(name)}')
    options = dict(num_classes=_classes_in(file, name)) if file else {}
    try:
        model = timm.create_model(name, pretrained=not (random or file), **options).eval()
    except (OSError, RuntimeError) as error:
        if random or file:
            raise
        raise ConnectionError(
            f'{source}: its weights could not be had ({str(error).splitlines()[0]}); download them '
            f'where there is a network, or take {RANDOM}{name}'
        ) from error
    if file and not random:
        load_trunk(model, file)
    data = resolve_model_data_config(model)
    preprocessor = ImagePreprocessor(
        mean=[255 * value for value in data['mean']], std=[255 * value for value in data['std']]
    )
    return Subject(label, source, model, preprocessor, tuple(data['input_size'][-2:]))


def _classes_in(file: str, name: str) -> int:
    """Classes of the classifier in a file, 0 without."""
    classifier = timm.get_pretrained_cfg(name).classifier
    first = classifier if isinstance(classifier, str) else classifier[0]
    return len(trunk_state(load_file(file)).get(f'{first}.bias', ()))


# [pooling]
# One vector for an image out of any timm model.
#
# Axes: B batch, C features.


def pooled_features(subject: Subject, batch: Tensor) -> Tensor:
    """Mean over positions of the last feature map, (B, C), of normalised images.

    Class and register tokens are left out.
    """
    # Hiera's norm comes behind its own pooling, and timm refuses to apply it to a map.
    norm = not isinstance(subject.model, Hiera)
    options = dict(indices=1, norm=norm, output_fmt='NCHW', intermediates_only=True)
    return subject.model.forward_intermediates(batch, **options)[-1].mean(dim=(2, 3))


# [labels]
# Whether images have the labels that a classifier can be judged by.


def check_labels(subject: Subject, images: AnalysisImages) -> None:
    """Refuse images without labels, or of other classes.

    Raises:
        ValueError: If there are no labels, or their classes are not as many as the network's.
    """
    if images.labels is None:
        raise ValueError(
            'accuracy needs labels: give a folder with one folder of images for each class, and '
            '--labelled where the tool has it'
        )
    if len(images.classes) != subject.num_classes:
        raise ValueError(
            f'{subject.label} tells {subject.num_classes} classes apart, the images have '
            f'{len(images.classes)}; give the classes that it was trained on'
        )


# [store]
# Where the parts of one network lie, and what they depend on.


def open_store(
    folder: Path, subject: Subject, images: AnalysisImages, **settings: object
) -> PartStore:
    """The parts of ``subject``; those of other weights, images or settings lie beside them."""
    shown = zlib.crc32('\n'.join(images.names).encode())
    common = dict(weights=subject.fingerprint(), images=f'{len(images)} ({shown:08x})')
    return PartStore(folder, subject.label, {**common, **settings})


# [batches]
# A measurement batch by batch, with a bar, each batch on the disk once it is measured.
#
# Axes: B batch, C channels, (H, W) pixels.


def measured_batches(
    subject: Subject,
    images: AnalysisImages,
    measure: Callable[[Tensor, range], Mapping[str, np.ndarray]],
    *,
    folder: Path | None,
    batch_size: int,
    **settings: object,
) -> Iterator[tuple[range, Mapping[str, np.ndarray]]]:
    """What ``measure`` says of every batch, and which images are in it.

    Args:
        subject: It normalises the images and has their size.
        images: All of them are measured.
        measure: Gets normalised images (B, C, H, W) and their numbers.
        folder: Keeps every batch, so that a call with the same arguments goes on from an earlier
            one; None: nothing is kept.
        batch_size: Images in a forward pass.
        settings: What else the numbers depend on.

    Raises:
        ValueError: See ``AnalysisImages.spans``.
    """
    store = None if folder is None else open_store(folder, subject, images, **settings)
    spans = list(images.spans(batch_size))
    for start, stop in progress(spans, subject.label):

        def part(start: int = start, stop: int = stop) -> Mapping[str, np.ndarray]:
            pixels = images.pixels(subject.image_size, start, stop)
            return measure(subject.normalise(pixels), range(start, stop))

        name = f'images_{start}_{stop}'
        yield range(start, stop), part() if store is None else store.compute(name, part)


# [options]
# The command line that all analyses share: networks, images, where to compute, where it goes.


def add_analysis_options(
    parser: argparse.ArgumentParser, *, out: str, num_images: int, batch_size: int = 64
) -> None:
    """Give a tool its networks and images.

    Args:
        parser: Of the tool.
        out: Default folder of the results.
        num_images: Default number of images.
        batch_size: Default number of images in a forward pass.
    """
    parser.add_argument(
        'subjects',
        nargs='+',
        metavar='[LABEL=][random:]SOURCE',
        help='networks to compare: a checkpoint, a timm model by name, or NAME:FILE, a timm model '
        'with the weights of a file; random:SOURCE is the same network with random weights',
    )
    parser.add_argument(
        '--images', default=PHOTOS, metavar='DIR', help='a folder, or "photos": installed ones'
    )
    parser.add_argument('--num-images', type=int, default=num_images, metavar='N')
    parser.add_argument('--seed', type=int, default=0, help='of every random choice')
    parser.add_argument('--batch-size', type=int, default=batch_size, metavar='N')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu, cuda, …'
    )
    parser.add_argument('--out', default=out, metavar='DIR', help='folder of the results')
    add_trust_option(parser)


def open_subjects(args: argparse.Namespace) -> list[Subject]:
    """The networks of the command line.

    Raises:
        ValueError: If two have the same label; see ``read_subject`` for what else.
    """
    with trust_checkpoints(args.trust_checkpoint):
        subjects = [read_subject(text, args.device, args.seed) for text in args.subjects]
    labels = [subject.label for subject in subjects]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f'two networks are called {label!r}; write NAME=SOURCE for one')
    return subjects


def open_images(args: argparse.Namespace, *, labelled: bool = False) -> AnalysisImages:
    """The images of the command line; with ``labelled``, the folders in DIR are classes."""
    return AnalysisImages(args.images, args.num_images, args.seed, labelled=labelled)


def open_results(args: argparse.Namespace, title: str, **settings: object) -> Results:
    """The folder of the command line; ``settings`` are what the tool adds to the shared ones."""
    return Results(args.out, title, {**shared_settings(args), **settings})


def shared_settings(args: argparse.Namespace) -> Mapping[str, object]:
    """What every analysis was measured with."""
    names = ('subjects', 'images', 'num_images', 'seed')
    return {name: getattr(args, name) for name in names}
