"""Networks by name or file, and their random twins."""

from difflib import get_close_matches
from pathlib import Path

import timm
import torch
from timm.data import resolve_model_data_config
from torch.nn.utils import convert_conv2d_weight_memory_format

from a2mim.analysis.subject import Subject
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.timm_backbone import load_trunk
from a2mim.weights.load_model import SUFFIXES, NoRecipeError, load_model
from a2mim.weights.names import trunk_state
from a2mim.weights.released import list_models
from a2mim.weights.safe_load import load_file

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
