"""The page of a run: pictures, curves, numbers, config and commands in one HTML file.

``index.html`` in the work dir; the pictures are in the file, and nothing is loaded from elsewhere.
"""

import base64
import time
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.history import curve_points, loss_curves
from a2mim.engine.pictures import SECONDS_BETWEEN
from a2mim.engine.progress import next_commands, own_command
from a2mim.engine.records import Record
from a2mim.registry import HOOKS
from a2mim.weights.files import write_atomically

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto } pre { overflow-x: auto; background: #8882; padding: 1rem }
td, th { padding: .2rem 1rem .2rem 0; text-align: left } :root { color-scheme: light dark }
</style>
<h1>{{ title }}</h1>
<p>{{ state }}</p>
<table><tr><th>loss<th>first<th>last</tr>
{% for name, first, last in losses %}<tr><td>{{ name }}<td>{{ first }}<td>{{ last }}</tr>
{% endfor %}</table>
{% if measures %}<table><tr><th>measured last<th>value</tr>
{% for name, value in measures %}<tr><td>{{ name }}<td>{{ value }}</tr>
{% endfor %}</table>{% endif %}
{% for name, data in pictures %}<h2>{{ name }}</h2>
<img alt="{{ name }}" src="data:image/png;base64,{{ data }}">
{% endfor %}
<h2>Commands</h2>
<pre>{{ commands }}</pre>
<h2>Config</h2>
<pre>{{ config }}</pre>
</html>
"""


@HOOKS.register_module()
class RunPageHook(Hook):
    """Write ``index.html`` in the work dir at the end of the run, and in between."""

    priority = 'LOWEST'  # after the pictures
    only_looks = True

    def __init__(self) -> None:
        self._written = float('-inf')
        self._record = Record('the page of the run')

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Show what is there before the first step."""
        self._write(runner)

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Update the page, but not after every short epoch."""
        if time.monotonic() - self._written > SECONDS_BETWEEN:
            self._write(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Show the whole run."""
        self._write(runner)

    def _write(self, runner: Runner) -> None:
        if not self._record.off:
            with self._record.attempt():
                page = run_page(runner).encode()
                path = Path(runner.work_dir, 'index.html')
                write_atomically(path, lambda file: file.write(page), len(page), 'Make room')
        self._written = time.monotonic()


def run_page(runner: Runner) -> str:
    """The page of ``runner`` as it is now."""
    folder, hub = Path(runner.work_dir), runner.message_hub
    points = {name: curve_points(curve)[1] for name, curve in loss_curves(hub).items()}
    measures = [
        (name.removeprefix('val/'), f'{history.current():.4g}')
        for name, history in hub.log_scalars.items()
        if name.startswith('val/') and 'time' not in name and len(history.data[0])
    ]
    drawn = sorted((folder / 'reconstruction').glob('epoch_*.png'), key=_epoch)
    pictures = [*dict.fromkeys([*drawn[-1:], *drawn[:1]]), *sorted(folder.glob('*.png'))]
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(PAGE)
        .render(
            title=folder.name,
            state=f'{runner.iter} of {runner.max_iters} steps, {time.strftime("%Y-%m-%d %H:%M")}',
            losses=[(name, f'{p[0]:.4g}', f'{p[-1]:.4g}') for name, p in points.items() if len(p)],
            measures=measures,
            pictures=[
                (str(path.relative_to(folder)), base64.b64encode(path.read_bytes()).decode())
                for path in pictures
            ],
            commands='\n'.join([own_command(), *next_commands(runner)]),
            config=runner.cfg.pretty_text,
        )
    )


def _epoch(path: Path) -> int:
    return int(path.stem.rpartition('_')[2])
