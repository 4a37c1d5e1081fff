"""One figure to where a command line says: a file, or a folder of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from a2mim.analysis.results import Results

SUFFIXES = ('.png', '.pdf')


def write_figure(
    figure: Figure,
    out: str | Path,
    name: str,
    caption: str,
    *,
    settings: Mapping[str, object],
    rows: Sequence[Mapping[str, object]] = (),
) -> Path:
    """Write ``out`` as PNG and PDF if it ends so, else ``name`` and the table into a folder.

    Returns:
        The PNG.
    """
    out = Path(out)
    if out.suffix in SUFFIXES:
        Results(out.parent, caption, settings).add_figure(figure, out.stem, caption)
        return out.with_suffix('.png')
    results = Results(out, name, settings)
    results.add_figure(figure, name, caption)
    if rows:
        results.add_table(rows, name, caption)
    results.finish()
    return out / f'{name}.png'
