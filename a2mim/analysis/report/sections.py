"""The sections that a report can measure, each kept in a folder until something changes."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from a2mim.analysis.report.comparison import Comparison
from a2mim.analysis.report.curves import add_curves
from a2mim.analysis.report.decoders import add_reconstruction_spectra, add_reconstructions
from a2mim.analysis.report.feature_maps import add_feature_spectra
from a2mim.analysis.report.patches import add_interactions, add_robustness
from a2mim.analysis.report.probes import add_probes
from a2mim.analysis.report.result_folder import ResultFolder, read_result_folder
from a2mim.analysis.results import INDEX, Results
from a2mim.version import __version__


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
