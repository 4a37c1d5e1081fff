"""The sections that a report can measure, each kept in a folder until something changes."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from a2mim.analysis.report_page import GENERATOR, ResultFolder, read_result_folder
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
from a2mim.version import __version__
from a2mim.weights.files import write_atomically


@dataclass(frozen=True)
class Section:
    """A measurement.

    Attributes:
        title: Heading.
        add: Fills the folder with figures and tables; raises ValueError where the networks are
            none that it can measure.
        numbers: Entries of ``Effort`` that it depends on.
        on_images: It looks at images.
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
    """Everything that the numbers of section ``name`` depend on."""
    section, effort = SECTIONS[name], asdict(compared.effort)
    if not section.on_images:
        return dict(logs={log.label: _checksum([log.train, log.val]) for log in compared.logs})
    settings = dict(compared.image_settings) | {key: effort[key] for key in section.numbers}
    if name == 'features':
        return settings | dict(probe_images=compared.probe_images)
    return settings | dict(num_images=compared.num_images)


def compute_section(name: str, compared: Comparison, folder: Path) -> ResultFolder:
    """Section ``name``: read from ``folder`` where it is finished, else measured into it.

    Its own folder has a name that changes with the settings, so that those of before stay, and an
    interrupted measurement goes on.

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


# [write]
# The file of a report: written whole or not at all, and over nothing but a report of ours.


HEAD = 1000  # bytes that hold the name of the program that wrote a page


def check_report_path(path: Path) -> None:
    """Refuse a file that must not be written, before there is anything to write.

    Raises:
        ValueError: If ``path`` is no HTML file by its name.
        IsADirectoryError: If it is a folder.
        FileExistsError: If it is a file that is no report of ours.
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
                f'--out {path} is no report of this tool and is not overwritten; give another name'
            )


def write_report(path: Path, page: str) -> None:
    """Write ``page``, and the folders above it where they are missing.

    Raises:
        ValueError, IsADirectoryError, FileExistsError: See ``check_report_path``.
    """
    check_report_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(page.encode()))
