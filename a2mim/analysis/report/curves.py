"""Training curves of several runs, one panel for each thing that was logged."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from a2mim.analysis.report.comparison import Comparison
from a2mim.analysis.results import Results
from a2mim.analysis.runs import RunLog
from a2mim.analysis.runs.curves import LONG

TIMES = ('time', 'data_time', 'data_wait', 'images_per_s', 'memory', 'grad_norm')
COLUMNS = 3
FIGURES = (
    ('losses', 'Training losses by iteration; each value is the mean since the one before.'),
    ('learning_rate', 'Learning rate by iteration.'),
    ('metrics', 'Validation metrics by epoch (by iteration of a run without epochs).'),
)


def add_curves(compared: Comparison, results: Results) -> None:
    """Losses, learning rate and metrics as figures, their last values as a table.

    Raises:
        ValueError: If no run has logs.
    """
    if not compared.logs:
        raise ValueError(
            'no work dir with logs is among the networks; give the folder of a training, not '
            'its checkpoint'
        )
    for name, caption in FIGURES:
        keys = [key for key in all_keys(compared.logs) if kind_of(key) == name]
        if keys:
            results.add_figure(draw_panels(compared.logs, keys), name, caption)
    results.add_table(
        last_values(compared.logs), 'last_values', 'Last logged value, and the best metric.'
    )


def all_keys(logs: Sequence[RunLog]) -> list[str]:
    """What any run logged, without times."""
    return sorted({key for log in logs for key in log.keys} - set(TIMES))


def kind_of(key: str) -> str:
    """The figure that ``key`` belongs to."""
    if key.endswith('lr'):
        return 'learning_rate'
    return 'losses' if 'loss' in key else 'metrics'


def draw_panels(logs: Sequence[RunLog], keys: Sequence[str]) -> Figure:
    """One panel for each key, one line for each run that has it, in its own colour."""
    columns = min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(max(5.2, 3.8 * columns), 2.9 * rows + 0.4), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, key in zip(panels, keys, strict=False):
        units = set()
        for number, log in enumerate(logs):
            if key in log.keys:
                steps, values, epochs = log.curve(key)
                marker = '.' if len(steps) < LONG else None
                panel.plot(steps, values, color=f'C{number}', marker=marker, label=log.label)
                units.add('epoch' if epochs else 'iteration')
        panel.set(xlabel=' or '.join(sorted(units)), ylabel=_with_unit(key))
        panel.grid(alpha=0.3)
    for panel in panels[len(keys) :]:
        panel.set_visible(False)
    found = {line.get_label(): line for panel in figure.axes for line in panel.get_lines()}
    figure.legend(list(found.values()), list(found), loc='outside upper center', ncols=3)
    return figure


def last_values(logs: Sequence[RunLog]) -> list[dict[str, object]]:
    """A row for each run and key: last step, last value, and of a metric the highest."""
    rows = []
    for log in logs:
        for key in (key for key in all_keys([log]) if kind_of(key) != 'learning_rate'):
            steps, values, epochs = log.curve(key)
            unit = 'epoch' if epochs else 'iteration'
            best = max(values) if kind_of(key) == 'metrics' else ''
            row = dict(network=log.label, key=key, step=f'{unit} {steps[-1]}', last=values[-1])
            rows.append(row | dict(highest=best))
    return rows


def _with_unit(key: str) -> str:
    if key == 'lr':
        return 'learning rate'
    return f'{key} (%)' if kind_of(key) == 'metrics' and 'top' in key else key
