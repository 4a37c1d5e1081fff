"""The networks of an analysis: read them by name or file, and measure them batch by batch.

``add_analysis_options`` is the command line that all analyses share: networks, images, device and
folder of the results; ``open_networks``, ``open_images`` and ``open_results`` read it.

Arguments of all measurements: every network gets the same ``images``, each at its own size;
``batch_size`` counts images in a forward pass; ``folder`` keeps measured parts, so that an
interrupted measurement resumes (None keeps nothing); ``settings`` are further values that the
result depends on; ``seed`` determines every random choice.

Axes: B batch, C channels, (H, W) pixels.
"""

import argparse
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models.hiera import Hiera
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.results import PartStore, Results, progress
from a2mim.interfaces import Algorithm, MaskedBackbone, TimmNetwork
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.timm_backbone import load_pretrained
from a2mim.weights.load_model import SUFFIXES, NoRecipeError, load_model
from a2mim.weights.names import find_backbone
from a2mim.weights.released import list_models
from a2mim.weights.safe_load import load_file, reading

RANDOM = 'random:'


@dataclass(frozen=True)
class Network:
    """A network with what it needs to see images.

    Measurements run it under ``torch.no_grad``, not in inference mode: some of timm's networks
    (ConViT) keep a tensor of one pass for the next, which may need a gradient.

    Attributes:
        label: Its name in figures and tables.
        source: What it was read from, as it was given.
        model: A plain timm model in evaluation mode, with or without a classifier.
        preprocessor: Normalizes batches of uint8 images, and makes pictures of them.
        image_size: (H, W) that it was trained on.
        whole: Of a checkpoint, what ``a2mim.load_model`` returns: ``A2MIM``, ``SimMIM`` or
            ``ImageClassifier`` around ``model``, or the ``TimmBackbone``; None for a timm model.
    """

    label: str
    source: str
    model: TimmNetwork
    preprocessor: ImagePreprocessor
    image_size: tuple[int, int]
    whole: Algorithm | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 without a classifier."""
        return self.model.num_classes

    @property
    def architecture(self) -> str:
        """Name in timm, ``–`` if unknown."""
        return str(getattr(self.model, 'pretrained_cfg', {}).get('architecture', '–'))

    @property
    def channels(self) -> int:
        """C of its images."""
        return len(cast(Tensor, self.preprocessor.mean))

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return cast(Tensor, self.preprocessor.mean).device

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) on any device to the input of ``model``, on its device."""
        return self.preprocessor(dict(image=pixels.to(self.device)))['image']

    @property
    def has_decoder(self) -> bool:
        """Whether ``whole`` reconstructs pixels; a model of HOG or other features does not."""
        whole = hasattr(self.whole, 'neck') and hasattr(self.whole, 'predict')
        return whole and self._feature_target is None

    @property
    def _feature_target(self) -> nn.Module | None:
        return getattr(getattr(self.whole, 'head', None), 'target', None)

    @property
    def pretraining(self) -> Algorithm:
        """``whole``, where it has a decoder of pixels.

        Raises:
            TypeError: If it has none, or its decoder predicts features.
        """
        if self._feature_target is not None:
            raise TypeError(
                f'{self.label} predicts {type(self._feature_target).__name__}, not pixels: its '
                'reconstructions have no error or spectrum to measure; a2mim.reconstruct draws them'
            )
        if self.whole is None or not self.has_decoder:
            raise TypeError(
                f'{self.label} has no decoder and reconstructs nothing; give a whole pre-training '
                'checkpoint, not a classifier or a backbone'
            )
        return self.whole

    def fingerprint(self) -> str:
        """Checksum of all weights, see ``fingerprint``."""
        return fingerprint((self.model if self.whole is None else self.whole).state_dict())


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Eight hexadecimal digits that change with any name or value."""
    checksum = 0
    for name, tensor in tensors.items():
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).numpy().data, checksum)
    return f'{checksum:08x}'


def read_network(text: str, device: str | torch.device = 'cpu', seed: int = 0) -> Network:
    """Load ``[LABEL=][random:]SOURCE`` onto ``device``.

    Args:
        text: SOURCE is one of
            - a checkpoint that names its model, or a released name: what ``a2mim.load_model``
              takes;
            - a config, which has random weights only;
            - the name of a timm model, whose weights timm downloads;
            - NAME:FILE, a timm model with the backbone, and classifier if there is one, of a file.
            The label is SOURCE without folders and suffix, unless it is given.
        device: Device of the weights.
        seed: Of random weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint of a network, or timm has no such model.
        ConnectionError: If timm cannot download the weights.
    """
    given, source = split_label(text)
    label = given or source_name(source)
    random = source.startswith(RANDOM)
    name = source.removeprefix(RANDOM)
    torch.manual_seed(seed)
    timm_name, file = _split_file(name)
    if timm_name:
        network = _from_timm(label, source, timm_name, random, file)
    elif Path(name).suffix in (*SUFFIXES, '.py') or Path(name).exists() or name in list_models():
        network = _from_ours(label, source, name, random)
    else:
        network = _from_timm(label, source, name, random)
    # Faster convolutions, see docs/benchmarks.md.
    convert_conv2d_weight_memory_format(network.model.to(device), torch.channels_last)
    network.preprocessor.to(device)
    if network.whole is not None:
        network.whole.to(device)
    return network


def split_label(text: str) -> tuple[str, str]:
    """Split ``LABEL=SOURCE``; the label is empty where none is given."""
    # A path may contain an equals sign; a label has no slash.
    label, sign, source = text.partition('=')
    return (label, source) if sign and label and '/' not in label else ('', text)


def source_name(source: str) -> str:
    """Label of a network that is given without one."""
    random = 'random ' if source.startswith(RANDOM) else ''
    path = Path(_split_file(source.removeprefix(RANDOM))[1])
    # Every run has a latest.pth: the folder is the name.
    name = path.parent.name if path.stem == 'latest' and path.parent.name else path.stem
    return f'{random}{name}'


def _split_file(name: str) -> tuple[str, str]:
    """Split ``NAME:FILE``; the first is empty where no timm model is named."""
    timm_name, sign, file = name.partition(':')
    return (timm_name, file) if sign and timm.is_model(timm_name) else ('', name)


def similar_models(name: str) -> str:
    """Hint for a name that timm does not have."""
    known = get_close_matches(name.split('.')[0], timm.list_models(), n=5)
    return f'similar names: {", ".join(known)}' if known else 'timm.list_models() has all names'


def _from_ours(label: str, source: str, name: str, random: bool) -> Network:
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
    return around(whole, label, source)


def around(whole: nn.Module, label: str, source: str) -> Network:
    """The network in a model of ours."""
    ours = cast(Algorithm, whole)
    model = cast(MaskedBackbone, getattr(ours, 'backbone', ours)).model
    return Network(label, source, model, ours.data_preprocessor, ours.input_spec.image_size, ours)


def _from_timm(label: str, source: str, name: str, random: bool, file: str = '') -> Network:
    if not timm.is_model(name):
        raise ValueError(f'{source}: neither a file nor a timm model; {similar_models(name)}')
    options: dict = dict(num_classes=_classes_in(file, name)) if file else {}
    try:
        model = timm.create_model(name, pretrained=not (random or file), **options).eval()
    except (OSError, RuntimeError) as error:
        if random or file:
            raise
        raise ConnectionError(
            f'{source}: its weights cannot be downloaded ({str(error).splitlines()[0]}); download '
            f'them on a machine with internet access, or give {RANDOM}{name}'
        ) from error
    if file and not random:
        load_pretrained(model, file)
    data = resolve_model_data_config(model)
    mean, std = ([255 * value for value in data[name]] for name in ('mean', 'std'))
    preprocessor = ImagePreprocessor(mean=mean, std=std)
    size = tuple(data['input_size'][-2:])
    return Network(label, source, cast(TimmNetwork, model), preprocessor, size)


def _classes_in(file: str, name: str) -> int:
    """Number of classes of the classifier in a file, 0 without one."""
    known = timm.get_pretrained_cfg(name)
    classifier = known.classifier if known and known.classifier else ''
    first = classifier if isinstance(classifier, str) else classifier[0]
    with torch.device('meta'):
        own = timm.create_model(name).state_dict()
    return len(find_backbone(load_file(file), own).state.get(f'{first}.bias', ()))


def pooled_features(network: Network, batch: Tensor) -> Tensor:
    """Mean over positions of the last feature map, (B, C), of normalized images.

    Class and register tokens are excluded.
    """
    # Hiera's norm follows its own pooling, and timm refuses to apply it to a map.
    norm = not isinstance(network.model, Hiera)
    options = dict(indices=1, norm=norm, output_fmt='NCHW', intermediates_only=True)
    return network.model.forward_intermediates(batch, **options)[-1].mean(dim=(2, 3))


def check_labels(network: Network, images: AnalysisImages) -> None:
    """Raise a ValueError unless the images have labels of as many classes as the network."""
    if images.labels is None:
        raise ValueError(
            'accuracy needs labels: give a folder with one folder of images for each class, and '
            '--labelled where the tool has it'
        )
    if len(images.classes) != network.num_classes:
        raise ValueError(
            f'{network.label} has {network.num_classes} classes, the images have '
            f'{len(images.classes)}; give the classes that it was trained on'
        )


def top1_hits(network: Network, images: AnalysisImages, batch: Tensor, start: int) -> Tensor:
    """(B,) 100 where the highest logit is that of the label of image ``start`` on, else 0."""
    if images.labels is None:
        raise ValueError('the images have no labels')
    labels = images.labels[start : start + len(batch)].to(network.device)
    return 100.0 * (network.model(batch).argmax(dim=1) == labels).float()


def open_store(
    folder: Path, network: Network, images: AnalysisImages, **settings: object
) -> PartStore:
    """The store of ``network``; other weights, images or settings have other folders."""
    shown = zlib.crc32('\n'.join(images.names).encode())
    common = dict(weights=network.fingerprint(), images=f'{len(images)} ({shown:08x})')
    return PartStore(folder, network.label, {**common, **settings})


def measured_batches(
    network: Network,
    images: AnalysisImages,
    measure: Callable[[Tensor, range], Mapping[str, np.ndarray]],
    *,
    folder: Path | None,
    batch_size: int,
    **settings: object,
) -> Iterator[tuple[range, Mapping[str, np.ndarray]]]:
    """Yield the indices of every batch and what ``measure`` returns for it, with a progress bar.

    ``measure`` gets normalized images (B, C, H, W) and their indices.
    """
    store = None if folder is None else open_store(folder, network, images, **settings)
    spans = list(images.spans(batch_size))
    for start, stop in progress(spans, network.label):

        def part(start: int = start, stop: int = stop) -> Mapping[str, np.ndarray]:
            pixels = images.pixels(network.image_size, start, stop)
            return measure(network.normalize(pixels), range(start, stop))

        name = f'images_{start}_{stop}'
        yield range(start, stop), part() if store is None else store.compute(name, part)


def chosen_device(name: str | None) -> str:
    """``name`` itself; None: cuda where there is one.

    Raises:
        ValueError: If torch cannot compute there.
    """
    if name is None:
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f'--device {name} cannot be used ({reason}); try --device cpu') from error
    return name


def open_networks(args: argparse.Namespace) -> list[Network]:
    """Load the networks of the command line, whose labels must differ."""
    args.device = chosen_device(args.device)
    with reading(args):
        networks = [read_network(text, args.device, args.seed) for text in args.subjects]
    labels = [network.label for network in networks]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f'two networks are called {label!r}; write NAME=SOURCE for one')
    return networks


def open_images(args: argparse.Namespace, *, labelled: bool = False) -> AnalysisImages:
    """Open the images of the command line; with ``labelled``, the folders in DIR are classes."""
    return AnalysisImages(args.images, args.num_images, args.seed, labelled=labelled)


def open_results(args: argparse.Namespace, title: str, **settings: object) -> Results:
    """Open the results folder; ``settings`` are added to those that all analyses share."""
    shared = {name: getattr(args, name) for name in ('subjects', 'images', 'num_images', 'seed')}
    return Results(args.out, title, {**shared, **settings})
