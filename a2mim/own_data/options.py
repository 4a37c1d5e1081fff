"""The options of ``a2mim pretrain --data DIR`` and ``a2mim finetune --data DIR``."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from a2mim.engine.config_edit import PRECISIONS
from a2mim.engine.loggers import BACKENDS
from a2mim.options import Parser, seed
from a2mim.own_data.length import seconds_of

# Options that may differ where a run is resumed: they change nothing in it.
FREE = ('data', 'out', 'resume', 'dry_run', 'devices', 'log', 'probe', 'time')


class FolderParser(Parser):
    """The parser of a command that needs a folder and no config."""

    without_config = 'is no option without a config; write one with --dry-run and edit it'


def number_or(word: str | None) -> Callable[[str], int | str]:
    """The type of an option: a whole number from 1 on, or ``word``."""
    wanted = f'number from 1 on, nor {word!r}' if word else 'whole number from 1 on'

    def read(text: str) -> int | str:
        if text == word:
            return text
        if text.isdecimal() and int(text):
            return int(text)
        raise argparse.ArgumentTypeError(f'{text!r} is no {wanted}')

    return read


whole = number_or(None)


def duration(text: str) -> str:
    """The type of ``--time``."""
    try:
        seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def add_folder_options(parser: argparse.ArgumentParser, epochs: str) -> None:
    """Add the options that both commands have.

    Args:
        parser: Of the command.
        epochs: How ``auto`` is chosen.
    """
    add = parser.add_argument_group('length').add_argument
    add('--epochs', type=number_or('auto'), default='auto', metavar='N', help=epochs)
    add(
        '--time',
        type=duration,
        metavar='4h|2m|90s',
        help='end so long after the start of the command, with a learning rate that has fallen; '
        'the length in steps is decided on the way and stated in the config',
    )
    add = parser.add_argument_group('training').add_argument
    batch = 'images a step; auto: the largest power of two that fits on a GPU, 32 on a CPU, and '
    batch += 'at most a quarter of the images; the learning rate follows by the root'
    add('--batch-size', type=number_or('auto'), default='auto', metavar='N', help=batch)
    precision = 'auto: bf16 where the device computes in it, else fp32'
    add('--precision', choices=PRECISIONS, default='auto', help=precision)
    devices = 'processes, one a GPU; all: the GPUs of this machine'
    add('--devices', type=number_or('all'), default=1, metavar='N|all', help=devices)
    add('--seed', type=seed, default=0, help='of every random draw')
    add('--log', metavar='NAMES', help=f'also log to {", ".join(BACKENDS)}; commas between several')
    add = parser.add_argument_group('run').add_argument
    out = 'folder of config, checkpoints, pictures and logs (default: work_dirs/, by its content)'
    add('--out', '--work-dir', metavar='DIR', type=Path, help=out)
    # The word is what messages of a stopped run, and tools/train.py, have behind it.
    again = dict(
        nargs='?',
        const='auto',
        choices=('auto',),
        metavar='auto',
        help='continue the run in OUT, if any',
    )
    add('--resume', **again)  # pyright: ignore[reportArgumentType]
    add('--dry-run', action='store_true', help='write OUT/config.py, try one step, and end')


def check_folder_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with one line where options are missing or contradict each other."""
    if args.data is None:
        parser.error('give a CONFIG, or a folder of images with --data DIR')
    if args.time and args.epochs != 'auto':
        parser.error(f'--epochs {args.epochs} and --time {args.time} exclude each other')


def default_out(images: Path, name: str) -> Path:
    """The folder of a run that is not given one; never among its ``images``, an absolute path."""
    beside = Path.cwd().is_relative_to(images)
    return (images.parent if beside else Path()) / 'work_dirs' / name


def written(command: str, args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """The command line that gives ``args``, without what may differ when the run is resumed."""
    words = [command, '--data', str(Path(args.data).absolute())]
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        kept = action.option_strings and action.dest not in ('data', 'out', 'resume', 'dry_run')
        if kept and value is not None and value != action.default:
            text = ','.join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f'{action.option_strings[0]}={text}')
    return f'a2mim {shlex.join(words)}'


def check_same(now: argparse.Namespace, parser: argparse.ArgumentParser, command: str) -> None:
    """Refuse options of a resumed run that differ from those that it was started with.

    Args:
        now: The options; those at their defaults are taken from the run.
        parser: Of the command.
        command: The line that the config of the run states.

    Raises:
        ValueError: If an option differs.
    """
    before = parser.parse_args(shlex.split(command)[2:])
    for action in parser._actions:
        name, value = action.dest, getattr(now, action.dest, None)
        given = value is not None and value != action.default
        if given and name not in FREE and value != getattr(before, name, None):
            raise ValueError(
                f'{action.option_strings[0]} {value}: the run in {now.out} has '
                f'{getattr(before, name, None)}; leave it out to resume, or give another --out'
            )
