"""The rows on top of a report: what each network is, and how it was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from a2mim.analysis.report.result_folder import Table
from a2mim.analysis.sources import RANDOM
from a2mim.analysis.subject import Subject
from a2mim.weights.load_model import embedded_config, input_spec
from a2mim.weights.safe_load import load_file

COLUMNS = ['network', 'source', 'kind', 'timm model', 'parameters', 'image (px)', 'recipe']
UNKNOWN = '–'


def runs_table(subjects: Sequence[Subject]) -> Table:
    """One row for each network."""
    caption = 'What is compared; parameters: of the timm model, without a decoder.'
    return Table(COLUMNS, [_row(subject) for subject in subjects], caption)


def model_name(subject: Subject) -> str:
    """Of the architecture, as timm calls it."""
    return str(getattr(subject.model, 'pretrained_cfg', {}).get('architecture', UNKNOWN))


def recipe_line(config: Mapping) -> str:
    """Algorithm, optimiser, batch and length of a config, as far as it tells."""
    model, parts = config['model'], [str(config['model'].get('type', UNKNOWN))]
    if (config.get('train_dataloader') or {}).get('dataset', {}).get('mask'):
        spec = input_spec(config)
        place = model['backbone'].get('mask_after')
        parts.append(
            f'{100 * spec.ratio:g} % of blocks of {spec.block_size} px hidden'
            + (f', token after {place}' if place else '')
        )
    optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    if optimizer:
        decay = optimizer.get('weight_decay', 0)
        parts.append(f'{optimizer["type"]}, lr {optimizer["lr"]:g}, weight decay {decay:g}')
    if size := (config.get('train_dataloader') or {}).get('batch_size'):
        parts.append(f'batch {size} a process')
    loop = config.get('train_cfg') or {}
    for key, unit in (('max_epochs', 'epochs'), ('max_iters', 'iterations')):
        if loop.get(key):
            parts.append(f'{loop[key]} {unit}')
    return '; '.join(parts)


def _row(subject: Subject) -> list[str]:
    kind = 'timm model' if subject.whole is None else type(subject.whole).__name__
    number = sum(parameter.numel() for parameter in subject.model.parameters())
    height, width = subject.image_size
    return [
        subject.label,
        subject.source,
        kind,
        model_name(subject),
        f'{number:,}',
        f'{height}×{width}',
        _recipe(subject),
    ]


def _recipe(subject: Subject) -> str:
    if subject.source.startswith(RANDOM):
        return 'none: random weights'
    path = Path(subject.source)
    config = embedded_config(path, load_file(path)) if path.is_file() else None
    return recipe_line(config) if config else UNKNOWN
