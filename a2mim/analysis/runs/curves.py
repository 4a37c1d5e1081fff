"""Curves of several runs in one figure."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from a2mim.analysis.runs.log import RunLog

LONG = 100  # points; a curve of fewer has marks


def plot_curves(
    figure: Figure,
    runs: Sequence[RunLog],
    keys: Sequence[str],
    legend: Sequence[str] | None = None,
    title: str | None = None,
) -> list[dict[str, object]]:
    """Draw every key of every run that has it: per iteration in training, else per epoch.

    Keys that count iterations and keys that count epochs have axes of their own.

    Args:
        figure: To draw in, empty.
        runs: From ``read_run``.
        keys: What to draw; ``RunLog.keys`` are there.
        legend: One text per run and key, keys of the first run first; else made of both.
        title: Of the figure.

    Returns:
        The points as rows of a table: run, key, unit of the step, step, value.

    Raises:
        ValueError: If no run has a key, or ``legend`` has another length.
    """
    if legend is not None and len(legend) != len(runs) * len(keys):
        raise ValueError(
            f'{len(legend)} texts of the legend were given, but {len(runs)} run(s) and {len(keys)} '
            f'key(s) make {len(runs) * len(keys)}'
        )
    pairs = [(run, key) for run in runs for key in keys]
    texts = legend or [f'{run.label}: {key}' if len(runs) > 1 else key for run, key in pairs]
    wanted = zip(pairs, texts, strict=True)
    curves = [(*pair, text, *pair[0].curve(pair[1])) for pair, text in wanted if _has(*pair, runs)]
    units = sorted({epochs for *_, epochs in curves})
    axes = dict(zip(units, figure.subplots(len(units), squeeze=False)[:, 0], strict=True))
    rows = []
    for run, key, text, steps, values, epochs in curves:
        axes[epochs].plot(steps, values, label=text, marker='.' if len(steps) < LONG else None)
        unit = 'epoch' if epochs else 'iteration'
        rows += [
            dict(run=run.label, key=key, unit=unit, step=step, value=value)
            for step, value in zip(steps, values, strict=True)
        ]
    for epochs, axis in axes.items():
        names = dict.fromkeys(key for _, key, *_, unit in curves if unit == epochs)
        axis.set(xlabel='epoch' if epochs else 'iteration', ylabel=', '.join(names))
        axis.legend()
    if title:
        figure.suptitle(title)
    return rows


def _has(run: RunLog, key: str, runs: Sequence[RunLog]) -> bool:
    if not any(key in other.keys for other in runs):
        known = sorted({name for other in runs for name in other.keys})
        raise ValueError(f'no log has the key {key!r}; there are {", ".join(known)}')
    return key in run.keys
