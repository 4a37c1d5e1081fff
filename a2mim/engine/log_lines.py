"""Lines of the log: dates with the year, none longer than a file or terminal is wide."""

import logging
import shutil
import sys
import textwrap

FILE_WIDTH = 160
DATE = '%Y/%m/%d %H:%M:%S'
CLOCK = '%H:%M:%S'


class LineFormatter(logging.Formatter):
    """mmengine's format with the year, folded at blanks; in a terminal the time alone stands first.

    Args:
        terminal: Whether the lines go to a terminal, whose width may change.
    """

    def __init__(self, *, terminal: bool) -> None:
        self.terminal = terminal
        head = '%(asctime)s' if terminal else '%(asctime)s - %(name)s - %(levelname)s -'
        super().__init__(f'{head} %(message)s', CLOCK if terminal else DATE)

    def format(self, record: logging.LogRecord) -> str:
        """The lines of ``record``."""
        text = super().format(record)
        if self.terminal and record.levelno >= logging.WARNING:
            text = text.replace(' ', f' {record.levelname}: ', 1)
        width = terminal_width() if self.terminal else FILE_WIDTH
        return '\n'.join(fold(line, width) for line in text.split('\n'))


def fold(line: str, width: int) -> str:
    """``line`` in parts of at most ``width`` characters, longer words broken, later ones indented.

    Args:
        line: Without a line break.
        width: In characters.
    """
    line = line.replace('\r', ' ').expandtabs()
    if len(line) <= width:
        return line
    indent = min(len(line) - len(line.lstrip()) + 4, width // 2)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=' ' * indent,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )


def terminal_width() -> int:
    """Columns of the terminal, less the last, in which some terminals begin a new line."""
    return max(20, shutil.get_terminal_size().columns - 1)


def is_terminal() -> bool:
    """Whether the output of this process is read in a terminal."""
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # no output, or one that is closed
        return False


def set_line_format(logger: logging.Logger) -> None:
    """Let every handler of ``logger`` write ``LineFormatter``'s lines."""
    for handler in logger.handlers:
        to_file = isinstance(handler, logging.FileHandler)
        handler.setFormatter(LineFormatter(terminal=not to_file and is_terminal()))
