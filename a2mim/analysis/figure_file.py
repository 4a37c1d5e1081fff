"""One figure to where a command line says: a file, or a folder of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from a2mim.analysis.results import Results, save_figure

SUFFIXES = ('.png', '.pdf')


def write_figure(
    figure: Figure,
    out: str | Path,
    name: str,
    caption: str,
    *,
    settings: Mapping[str, object],
    rows: Sequence[Mapping[str, object]] = (),
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write ``out`` as PNG and PDF if it ends so, else ``name``, table and arrays into a folder.

    Returns:
        The PNG.
    """
    out = Path(out)
    if out.suffix in SUFFIXES:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, out.with_suffix(''))
        return out.with_suffix('.png')
    results = Results(out, name, settings)
    results.add_figure(figure, name, caption)
    if rows:
        results.add_table(rows, name, caption)
    if arrays:
        results.add_arrays(name, **arrays)
    results.finish()
    return out / f'{name}.png'
