"""What a person sees of a training: a bar in a terminal, the first numbers, a summary at its end.

Values are those that the log has fetched already: no step waits for the device to be shown.
"""

import logging
import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from rich.console import Console
from rich.live import Live
from rich.text import Text

from a2mim.engine.history import curve_points, loss_curves
from a2mim.engine.log_lines import is_terminal, terminal_width
from a2mim.engine.loops import batch_size
from a2mim.engine.mmengine_fixes import RuntimeInfoHook
from a2mim.interfaces import PROBES
from a2mim.registry import HOOKS

FIRST_NUMBERS = 10  # steps
WINDOW = 10  # values of a mean
BAR = 20  # columns
PER_SECOND = 4  # drawings


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{rest:02}'


class Above:
    """A stream of log lines that stand above the bar, whatever process writes them.

    Args:
        console: Of the bar.
        stream: Where they go otherwise; data workers write to it.
    """

    def __init__(self, console: Console, stream: TextIO) -> None:
        self.console, self.stream, self.owner = console, stream, os.getpid()

    def write(self, text: str) -> None:
        """Print ``text`` above the bar."""
        if os.getpid() != self.owner:
            self.stream.write(text)
        elif text.strip('\n'):
            self.console.print(Text(text.rstrip('\n')), no_wrap=True, crop=True)

    def flush(self) -> None:
        """Flush the stream behind."""
        self.stream.flush()


class Forgiving:
    """A terminal that may be closed while a run is stopped by that: nothing of it ends a thread."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.encoding = stream, getattr(stream, 'encoding', 'utf-8')

    def write(self, text: str) -> int:
        """Write ``text`` if that is possible."""
        with suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with suppress(OSError, ValueError):
            self.stream.flush()

    def isatty(self) -> bool:
        """A bar is shown in terminals only."""
        return True

    def fileno(self) -> int:
        """For the size of the terminal."""
        return self.stream.fileno()


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show the progress of a training to the person who started it.

    In a terminal: a bar of two lines that fits its width, and one line per epoch above it, in place
    of the log lines of training, which go to the file. Otherwise: the log lines, and one more after
    ``FIRST_NUMBERS`` steps. At the end: time, losses, probes, files and the next commands.
    """

    priority = 'LOWEST'
    only_looks = True

    def __init__(self) -> None:
        self._live: Live | None = None
        self._streams: list[tuple[logging.StreamHandler, TextIO]] = []
        self._shown = 0.0
        self._values: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Show the bar, where there is a terminal for it."""
        self._runner, self._first = runner, runner.iter
        self._started = self._epoch_started = time.monotonic()
        if not is_main_process() or not is_terminal() or os.environ.get('TERM') == 'dumb':
            return
        stream = sys.stdout
        console = Console(file=cast(TextIO, Forgiving(stream)), force_terminal=True, markup=False)
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                self._streams.append((handler, stream))
                handler.setStream(cast(TextIO, Above(console, stream)))
                handler.addFilter(self._is_above)
        self._live.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Look at the values that are there; say the first ones in the log."""
        if runner.iter + 1 == FIRST_NUMBERS:
            self._say_first(runner, batch_idx)
        now = time.monotonic()
        if self._live is not None and now - self._shown > 1 / PER_SECOND:
            self._shown = now
            self._look(runner)

    def _say_first(self, runner: Runner, batch_idx: int) -> None:
        """Fetch the first values in all processes, and log them unless a hook has done so."""
        for hook in runner.hooks:
            if isinstance(hook, RuntimeInfoHook):
                hook.flush(runner)
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        logged = any(self._logs(hook, runner, batch_idx) for hook in loggers)
        if not logged and self._live is None and is_main_process():
            _, line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')
            runner.logger.info(line)

    def after_train_epoch(self, runner: Runner) -> None:
        """One line above the bar."""
        if self._live is not None:
            self._look(runner)
            seconds = time.monotonic() - self._epoch_started
            words = f'epoch {runner.epoch + 1}/{runner.max_epochs}  {clock(seconds)}'
            self._live.console.print(self._fitting(f'{words}  {self._numbers()}'))
        self._epoch_started = time.monotonic()

    def after_train(self, runner: Runner) -> None:
        """Say what the run has come to."""
        self.finish(runner)
        if is_main_process():
            for line in summary(runner, self._first, time.monotonic() - self._started):
                runner.logger.info(line)

    def finish(self, runner: Runner) -> None:
        """Take the bar away; called at any end of the training."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        while self._streams:
            handler, stream = self._streams.pop()
            handler.setStream(stream)
            handler.removeFilter(self._is_above)

    @staticmethod
    def _is_above(record: logging.LogRecord) -> bool:
        """Whether a record is shown above the bar: not what the bar itself shows."""
        return not str(record.msg).startswith(('Epoch(train)', 'Iter(train)'))

    @staticmethod
    def _logs(hook: LoggerHook, runner: Runner, batch_idx: int) -> bool:
        """Whether ``hook`` logs this iteration."""
        inner = hook.every_n_inner_iters(batch_idx, hook.interval)
        return inner or hook.end_of_epoch(runner.train_dataloader, batch_idx)

    def _look(self, runner: Runner) -> None:
        """Read what the log has fetched."""
        values = {}
        for name, history in runner.message_hub.log_scalars.items():
            kind, _, key = name.partition('/')
            if kind == 'train' and len(history.data[0]) and ('loss' in key or key in TIMES):
                values[key] = float(history.mean(WINDOW))
        self._values = values

    def _numbers(self) -> str:
        """Losses, speed, wait for data and memory, the most important first."""
        values = dict(self._values)
        seconds, wait = values.pop('time', 0.0), values.pop('data_time', 0.0)
        parts = [f'{name.removeprefix("loss_")} {value:.4g}' for name, value in values.items()]
        if seconds > 0:
            images = batch_size(self._runner.train_dataloader) * self._runner.world_size / seconds
            parts += [f'{images:.3g} images/s', f'data wait {wait / seconds:.0%}']
        if torch.cuda.is_available():
            parts.append(f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB')
        return '  '.join(parts)

    def _render(self) -> Text:
        """The two lines of the bar."""
        runner = self._runner
        done, all_ = runner.iter, max(runner.max_iters, 1)
        epoch = min(runner.epoch + 1, runner.max_epochs)
        full = round(BAR * min(done / all_, 1))
        eta = runner.message_hub.get_info('eta', None)
        ends = '━╌' if 'utf' in (sys.stdout.encoding or '').lower() else '=-'
        words = f'epoch {epoch}/{runner.max_epochs} {ends[0] * full}{ends[1] * (BAR - full)} '
        words += f'step {done}/{all_}' + ('' if eta is None else f'  eta {clock(eta)}')
        lines = [self._fitting(words), self._fitting(self._numbers() or 'the first numbers follow')]
        return Text('\n').join(lines)

    @staticmethod
    def _fitting(text: str) -> Text:
        """As many of the entries of ``text``, two blanks apart, as the terminal has room for."""
        width = terminal_width()
        while len(text) > width and '  ' in text:
            text = text.rpartition('  ')[0]
        return Text(text[:width], no_wrap=True, overflow='crop')


TIMES = ('time', 'data_time')


def summary(runner: Runner, first: int, seconds: float) -> list[str]:
    """The last lines of a log: what was done, the losses, the files and what to do next.

    Args:
        runner: Of the training that has ended.
        first: Steps that were done when it started.
        seconds: That it took.
    """
    # A loop by iterations counts no epochs.
    by_epoch = runner.iter == runner.epoch * len(runner.train_dataloader)
    what = f'{runner.epoch} of {runner.max_epochs} epochs' if by_epoch else ''
    what = what or f'{runner.iter} of {runner.max_iters} iterations'
    lines = [f'complete: {what}']
    if runner.iter > first:
        lines[0] += f', {runner.iter - first} steps in {seconds / 60:.1f} min'
    for name, curve in loss_curves(runner.message_hub).items():
        values = curve_points(curve)[1]
        if len(values):
            lines.append(f'{name}: {values[0]:.4g} at the start, {values[-1]:.4g} at the end')
    for name, (epochs, values) in runner.message_hub.get_info(PROBES, {}).items():
        ends = (f'{values[end]:.4g} at epoch {epochs[end]}' for end in (0, -1))
        lines.append(f'{name}: {", ".join(ends)}')
    measured = {
        name.removeprefix('val/'): float(history.current())
        for name, history in runner.message_hub.log_scalars.items()
        if name.startswith('val/') and 'time' not in name and len(history.data[0])
    }
    if measured:
        lines.append('  '.join(f'{name}: {value:.4g}' for name, value in measured.items()))
    folder = from_here(runner.work_dir)
    names = ['index.html', 'latest.pth', 'loss.png', 'reconstruction']
    found = [name for name in names if (folder / name).exists()]
    if found:
        lines.append(f'in {folder}: {", ".join(found)}')
    return lines + [f'next: {command}' for command in next_commands(runner)]


def from_here(path: str | Path) -> Path:
    """``path`` relative to the current folder, if it lies below it."""
    absolute, here = Path(path).absolute(), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def next_commands(runner: Runner) -> list[str]:
    """What one does with the result of a training of this kind."""
    folder = from_here(runner.work_dir)
    latest, config = folder / 'latest.pth', folder / Path(runner.cfg.filename or 'config.py').name
    if not latest.exists():
        return []
    if runner.val_loop is not None:
        # A detector or segmentor is tested by the program of its kind.
        transfer = 'a2mim.transfer' in (runner.cfg.get('custom_imports') or {}).get('imports', [])
        call = ['python', '-m', 'a2mim.transfer.test'] if transfer else call_of('test')
        return [shlex.join([*call, str(config), str(latest)])]
    commands = [shlex.join([*call_of('extract'), str(latest), str(folder / 'backbone.pth')])]
    if started_as_command() and (runner.cfg.model.get('backbone') or {}).get('model_name'):
        commands.append(f'a2mim finetune --data CLASS_FOLDERS --from {shlex.quote(str(folder))}')
    return commands


def call_of(command: str) -> list[str]:
    """How one starts a command, in the way in which this program was started."""
    if started_as_command():
        return ['a2mim', command]
    return ['python', f'tools/{COMMANDS[command]}']


# The programs behind the commands that a run names.
COMMANDS = {
    'extract': 'model_converters/extract_backbone_weights.py',
    'report': 'analysis_tools/report.py',
    'test': 'test.py',
}


def started_as_command() -> bool:
    """Whether the program was started as ``a2mim COMMAND``."""
    return sys.argv[0].startswith('a2mim ')


def own_command() -> str:
    """The command line of this program."""
    name = sys.argv[0].split() if started_as_command() else ['python', sys.argv[0]]
    return shlex.join([*name, *sys.argv[1:]])
