"""A network to look into: a timm model by name or a checkpoint of ours, or its random twin.

Axes: B batch, C channels, (H, W) pixels.
"""

import zlib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.zoo.load_model import SUFFIXES, load_model

RANDOM = 'random:'


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
        return fingerprint(self.model if self.whole is None else self.whole)


def fingerprint(module: nn.Module) -> str:
    """Eight hexadecimal digits that change with any weight."""
    check = 0
    for name, tensor in module.state_dict().items():
        check = zlib.crc32(name.encode(), check)
        check = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).numpy(), check)
    return f'{check:08x}'


def read_subject(text: str, device: str | torch.device = 'cpu', seed: int = 0) -> Subject:
    """``[LABEL=][random:]SOURCE`` to a network on ``device``.

    Args:
        text: SOURCE is a file of weights (any that ``a2mim.load_model`` takes), a config, which
            has random weights only, or the name of a timm model, whose weights timm downloads.
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
    if Path(name).suffix in (*SUFFIXES, '.py') or Path(name).exists():
        subject = _from_file(label, source, Path(name), random)
    else:
        subject = _from_timm(label, source, name, random)
    subject.model.to(device)
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
    path = Path(source.removeprefix(RANDOM))
    # latest.pth says nothing: the run does.
    name = path.parent.name if path.stem == 'latest' and path.parent.name else path.stem
    return f'{random}{name}'


def similar_models(name: str) -> str:
    """What to say to a person who asked for a timm model that there is not."""
    known = get_close_matches(name.split('.')[0], timm.list_models(), n=5)
    return f'similar names: {", ".join(known)}' if known else 'timm.list_models() has all names'


def _from_file(label: str, source: str, path: Path, random: bool) -> Subject:
    if path.suffix == '.py' and not random:
        raise ValueError(
            f'{source}: a config has no weights; write {RANDOM}{path} for random ones, or give the '
            'checkpoint of its run'
        )
    whole = load_model(path, pretrained=not random)
    backbone = getattr(whole, 'backbone', whole)
    size = whole.input_spec.image_size
    return Subject(label, source, backbone.model, whole.data_preprocessor, size, whole)


def _from_timm(label: str, source: str, name: str, random: bool) -> Subject:
    if not timm.is_model(name):
        raise ValueError(f'{source}: neither a file nor a timm model; {similar_models(name)}')
    try:
        model = timm.create_model(name, pretrained=not random).eval()
    except (OSError, RuntimeError) as error:
        if random:
            raise
        raise ConnectionError(
            f'{source}: its weights could not be had ({str(error).splitlines()[0]}); download them '
            f'where there is a network, or take {RANDOM}{name}'
        ) from error
    data = resolve_model_data_config(model)
    preprocessor = ImagePreprocessor(
        mean=[255 * value for value in data['mean']], std=[255 * value for value in data['std']]
    )
    return Subject(label, source, model, preprocessor, tuple(data['input_size'][-2:]))
