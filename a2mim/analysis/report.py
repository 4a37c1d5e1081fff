"""A report of several networks: what it compares, its sections, and its file.

A section is measured into a folder of its own and read from there afterwards, until one of its
settings changes.
"""

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from a2mim.analysis.networks import RANDOM, Network, split_label
from a2mim.analysis.report_page import GENERATOR, ResultFolder, Table, read_result_folder
from a2mim.analysis.report_sections import (
    Comparison,
    add_curves,
    add_feature_spectra,
    add_interactions,
    add_probes,
    add_reconstruction_spectra,
    add_reconstructions,
    add_robustness,
)
from a2mim.analysis.results import INDEX, Results
from a2mim.options import LATEST
from a2mim.version import __version__
from a2mim.weights.files import write_atomically
from a2mim.weights.load_model import embedded_config, input_spec
from a2mim.weights.safe_load import load_file

LOGS = '*/vis_data/scalars.json'
HEADER_COLUMNS = ['network', 'source', 'kind', 'timm model', 'parameters', 'image (px)', 'recipe']
UNKNOWN = '–'
HEAD = 1000  # bytes that contain the generator of a page


@dataclass(frozen=True)
class Entry:
    """One entry of the command line.

    Attributes:
        text: For ``read_network``.
        work_dir: With the logs of the training; None without.
    """

    text: str
    work_dir: Path | None = None


def read_entry(text: str) -> Entry:
    """``[LABEL=][random:]SOURCE``; SOURCE is a work dir or what ``read_network`` takes.

    Raises:
        FileNotFoundError: If a folder has no ``latest.pth``.
        ValueError: If it is a folder of results.
    """
    label, source = split_label(text)
    folder = Path(source.removeprefix(RANDOM))
    if not folder.is_dir():
        return Entry(text)
    if (folder / INDEX).is_file():
        raise ValueError(f'{folder} is a folder of results: give it as --results {folder}')
    if not (folder / LATEST).is_file():
        raise FileNotFoundError(
            f'{folder} has no {LATEST}: it is not the work dir of a training that has saved a '
            'checkpoint; give one, or a checkpoint file'
        )
    random = RANDOM if source.startswith(RANDOM) else ''
    name = label or f'{"random " if random else ""}{folder.resolve().name}'
    # The logs do not belong to random weights.
    logs = folder if not random and any(folder.glob(LOGS)) else None
    return Entry(f'{name}={random}{folder / LATEST}', logs)


def runs_table(networks: Sequence[Network]) -> Table:
    """One row for each network: what it is, and how it was trained."""
    caption = 'What is compared; parameters: of the timm model, without a decoder.'
    return Table(HEADER_COLUMNS, [_row(network) for network in networks], caption)


def _row(network: Network) -> list[str]:
    height, width = network.image_size
    return [
        network.label,
        network.source,
        'timm model' if network.whole is None else type(network.whole).__name__,
        network.architecture,
        f'{sum(parameter.numel() for parameter in network.model.parameters()):,}',
        f'{height}×{width}',
        _recipe(network),
    ]


def _recipe(network: Network) -> str:
    if network.source.startswith(RANDOM):
        return 'none: random weights'
    path = Path(network.source)
    config = embedded_config(load_file(path)) if path.is_file() else None
    return recipe_line(config) if config else UNKNOWN


def recipe_line(config: Mapping) -> str:
    """Algorithm, masking, optimizer, batch and length of a config, as far as it has them."""
    model, loader = config['model'], config.get('train_dataloader') or {}
    parts = [str(model.get('type', UNKNOWN))]
    if loader.get('dataset', {}).get('mask'):
        spec = input_spec(config)
        place = model['backbone'].get('mask_after')
        parts.append(
            f'{100 * spec.ratio:g} % of blocks of {spec.block_size} px masked'
            + (f', token after {place}' if place else '')
        )
    optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    if optimizer:
        decay = optimizer.get('weight_decay', 0)
        parts.append(f'{optimizer["type"]}, lr {optimizer["lr"]:g}, weight decay {decay:g}')
    if size := loader.get('batch_size'):
        parts.append(f'batch size {size} per process')
    loop = config.get('train_cfg') or {}
    for key, unit in (('max_epochs', 'epochs'), ('max_iters', 'iterations')):
        if loop.get(key):
            parts.append(f'{loop[key]} {unit}')
    return '; '.join(parts)


@dataclass(frozen=True)
class Section:
    """A measurement.

    Attributes:
        title: Heading.
        add: Fills the folder with figures and tables; raises ValueError if it cannot measure
            these networks.
        numbers: Entries of ``Effort`` that it depends on.
        on_images: Whether it uses images.
    """

    title: str
    add: Callable[[Comparison, Results], None]
    numbers: tuple[str, ...] = ()
    on_images: bool = True


SECTIONS: Mapping[str, Section] = {
    'curves': Section('Training curves', add_curves, on_images=False),
    'reconstructions': Section('Reconstructions', add_reconstructions, ('pictures',)),
    'features': Section('Frozen features', add_probes, ('labels_per_class',)),
    'spectra': Section('Frequencies of feature maps', add_feature_spectra, ('images',)),
    'reconstruction-spectra': Section(
        'Frequencies of reconstructions', add_reconstruction_spectra, ('images',)
    ),
    'robustness': Section('Occluded and shuffled images', add_robustness, ('images',)),
    'interactions': Section(
        'Interactions of patches', add_interactions, ('interaction_images', 'pairs', 'contexts')
    ),
}


def section_settings(name: str, compared: Comparison) -> dict[str, object]:
    """Everything that the results of section ``name`` depend on."""
    section, effort = SECTIONS[name], asdict(compared.effort)
    if not section.on_images:
        return dict(logs={log.label: _checksum([log.train, log.val]) for log in compared.logs})
    settings = dict(compared.image_settings) | {key: effort[key] for key in section.numbers}
    if name == 'features':
        return settings | dict(probe_images=compared.probe_images)
    return settings | dict(num_images=compared.num_images)


def compute_sections(
    names: Sequence[str] | None, compared: Comparison, folder: Path, tell: Callable[[str], None]
) -> tuple[list[ResultFolder], list[str]]:
    """The sections, and notes on those that cannot be measured, unless ``names`` selects them.

    ``tell`` is called with a line for each section.
    """
    sections, notes = [], []
    wanted = list(SECTIONS if names is None else dict.fromkeys(names))
    if any(SECTIONS[name].on_images for name in wanted):
        compared.open_images(compared.num_images or compared.effort.images)  # check them first
    for name in wanted:
        start = time.perf_counter()
        try:
            sections.append(compute_section(name, compared, folder))
        except ValueError as error:
            if names is not None:
                raise ValueError(f'section {name}: {error}') from error
            notes.append(f'Left out: {SECTIONS[name].title} ({error}).')
            tell(notes[-1])
        else:
            tell(f'{name:24} {time.perf_counter() - start:6.1f} s')
    return sections, notes


def compute_section(name: str, compared: Comparison, folder: Path) -> ResultFolder:
    """Read section ``name`` from ``folder`` if it is finished, else measure it into ``folder``.

    Its subfolder is named by a checksum of the settings: other settings do not overwrite it, and
    an interrupted measurement resumes.

    Raises:
        ValueError: If it cannot measure these networks.
    """
    settings = section_settings(name, compared)
    own = folder / f'{name}-{_checksum([settings, __version__])}'
    if not (own / INDEX).is_file():
        results = Results(own, SECTIONS[name].title, settings)
        SECTIONS[name].add(compared, results)
        results.finish()
    return read_result_folder(own)


def _checksum(value: object) -> str:
    return f'{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}'


def check_report_path(path: Path) -> None:
    """Check before the measurement that ``path`` can be written.

    Raises:
        ValueError: If its name is not that of an HTML file.
        IsADirectoryError: If it is a folder.
        FileExistsError: If it is a file other than a report of ours.
    """
    if path.suffix not in ('.html', '.htm'):
        raise ValueError(f'--out {path} must end in .html')
    if path.is_dir():
        raise IsADirectoryError(f'--out {path} is a folder; give the name of a file in it')
    if not path.is_file():
        return
    with path.open('rb') as file:
        if f'<meta name="generator" content="{GENERATOR}">'.encode() not in file.read(HEAD):
            raise FileExistsError(
                f'--out {path} is not a report of this tool and is not overwritten; give another '
                'name'
            )


def write_report(path: Path, page: str) -> None:
    """Write ``page``, and create its folder.

    Raises:
        ValueError, IsADirectoryError, FileExistsError: See ``check_report_path``.
    """
    check_report_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(page.encode()))
