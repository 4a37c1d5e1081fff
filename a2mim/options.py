"""Command lines: the parser of every command and the options that several share.

Nothing here imports torch, so that help and mistakes are answered at once.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from a2mim.errors import USER_ERROR

# What a wheel carries beside the package, where openmim looks for it; links in a checkout.
SHIPPED = Path(__file__).parent / '.mim'

# The variables that each launcher sets: world size, local rank and rank.
VARIABLES = {
    'pytorch': ('WORLD_SIZE', 'LOCAL_RANK', 'RANK'),
    'slurm': ('SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_PROCID'),
    'mpi': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_RANK'),
}
LAUNCHERS = ('none', *VARIABLES)
TRUST = '--trust-checkpoint'
WEIGHTS = ('averaged', 'raw')
LATEST = 'latest.pth'  # the last checkpoint of a run, in its folder


def last_of_run(path: str | Path) -> Path:
    """``path`` itself, or the last checkpoint of the run whose folder it is."""
    path = Path(path).expanduser()
    return path / LATEST if (path / LATEST).is_file() else path


class Help(argparse.RawDescriptionHelpFormatter):
    """Lines of the description as they are, and the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, usual = action.help or '', action.default
        none = usual is None or usual is False or usual in (argparse.SUPPRESS, {}, [])
        shown = action.option_strings and not none
        return f'{text} (default: %(default)s)' if shown and 'default' not in text else text


class Parser(argparse.ArgumentParser):
    """The parser of one command. Its errors are one line, with the option that was meant.

    Args:
        description: The docstring of its module.
        examples: Arguments of calls, shown at the end of the help.

    Attributes:
        without_config: What is wrong with an option for which a config has an entry.
    """

    without_config = ''

    def __init__(
        self, description: str | None, examples: Sequence[str] = (), **options: object
    ) -> None:
        super().__init__(description=description, formatter_class=Help, **options)  # pyright: ignore
        # As `a2mim COMMAND`, or as a script.
        call = self.prog if ' ' in self.prog else f'python {sys.argv[0]}'
        if examples:
            lines = '\n'.join(f'  {call} {words}'.replace('%', '%%') for words in examples)
            self.epilog = f'examples:\n{lines}'
        self._places: list[tuple[str, str]] = []

    def add_place(self, name: str, *options: str, metavar: str, help: str) -> None:
        """Add a path or a name that is given by its position or by an option."""
        usual = dict(default=argparse.SUPPRESS, help=help, metavar=metavar)
        self.add_argument(name, nargs='?', **usual)  # pyright: ignore[reportArgumentType]
        self.add_argument(*options, dest=name, **{**usual, 'help': 'the same'})  # pyright: ignore
        self._places.append((name, f'{metavar}, or {options[0]} {metavar}'))

    def parse_known_args(self, args=None, namespace=None) -> tuple:
        """Parse, and refuse an empty word and a call without one of its places."""
        words = sys.argv[1:] if args is None else [*args]
        for before, word in pairwise(['', *words]):
            if not word or (word.startswith('--') and word.endswith('=')):
                self.error(
                    f'{word or before} is given an empty word (an empty variable of the shell?)'
                )
        found, rest = super().parse_known_args(words, namespace)
        missing = [text for name, text in self._places if not hasattr(found, name)]
        if missing:
            self.error(f'the following arguments are required: {"; ".join(missing)}')
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Exit with one line and code 2."""
        _, found, unknown = message.partition('unrecognized arguments: ')
        message = self._remedy(unknown.split(' ')) if found else message
        self.exit(USER_ERROR, f'error: {message}; {self.prog} --help has all options\n')

    def _remedy(self, unknown: Sequence[str]) -> str:
        """What to write in place of the first of the words that are no option or its value."""
        word, sign, value = unknown[0].partition('=')
        name = word.lstrip('-').replace('_', '-')
        if not word.startswith('-'):
            return f'{unknown[0]!r} belongs to no option'
        value = (
            value if sign else next((w for w in unknown[1:2] if not w.startswith('--')), 'VALUE')
        )
        known = self._option_string_actions
        names = next((names for names in ELSEWHERE if name in names.split()), '')
        ours = [f'--{one} VALUE' for one in names.split() if f'--{one}' in known]
        if ours or (names and '--cfg-options' in known):
            remedy = [*ours, ELSEWHERE[names]][0].replace('VALUE', value)
            return f'{word} is no option here; write {remedy}'
        if names and self.without_config:
            return f'{word} {self.without_config}'
        near = difflib.get_close_matches(f'--{name}', known, n=1, cutoff=0.7)
        return f'{word} is no option{f"; did you mean {near[0]}?" if near else ""}'


# Options of other programs with those of ours that mean the same, and what does the same in a
# command that has none of these, but takes a config.
ELSEWHERE = {
    'lr learning-rate base-lr blr': '--cfg-options optim_wrapper.optimizer.lr=VALUE',
    'wd weight-decay': '--cfg-options optim_wrapper.optimizer.weight_decay=VALUE',
    'epochs epoch max-epochs num-epochs': '--cfg-options train_cfg.max_epochs=VALUE',
    'batch-size batch bs b': '--cfg-options train_dataloader.batch_size=VALUE',
    'workers num-workers j': '--cfg-options train_dataloader.num_workers=VALUE',
    'accum-iter accumulation': '--cfg-options optim_wrapper.accumulative_counts=VALUE',
    'model backbone arch': '--cfg-options model.backbone.model_name=VALUE',
    'num-classes': '--cfg-options model.backbone.num_classes=VALUE',
    'gpus num-gpus ngpus nproc-per-node devices': 'bash tools/dist_train.sh CONFIG VALUE',
    'gpu gpu-id gpu-ids device': 'CUDA_VISIBLE_DEVICES=VALUE before the command',
    'data data-path data-dir dataset': '--data VALUE',
    'out work-dir output output-dir out-dir save-dir log-dir': '--work-dir VALUE',
    'cfg-options options': '--cfg-options VALUE',
    'fp16 half': '--precision fp16',
    'size img-size image-size': '--cfg-options train_dataloader.dataset.pipeline.0.size=VALUE '
    'train_dataloader.dataset.mask.image_size=VALUE',
    'channels': '--cfg-options train_dataloader.dataset.source.channels=VALUE '
    'model.backbone.in_chans=VALUE',
    'scale': '--cfg-options model.data_preprocessor.scale=VALUE',
    'method': 'the config of the method, from `a2mim recipes ls`',
    'time': '--cfg-options train_cfg.max_epochs=N, or --data DIR --time VALUE without a config',
    'dry-run': '--cfg-options train_cfg.max_epochs=1, or --data DIR --dry-run without a config',
}


def seed(text: str) -> int:
    """The type of ``--seed``: what NumPy takes."""
    if text.isdecimal() and int(text) < 2**32:
        return int(text)
    raise argparse.ArgumentTypeError(f'{text!r} is no whole number from 0 to {2**32 - 1}')


def usable_cores() -> int:
    """Cores that this process may use."""
    everywhere = not hasattr(os, 'sched_getaffinity')
    return os.cpu_count() or 1 if everywhere else len(os.sched_getaffinity(0))


def add_reading_options(parser: argparse._ActionsContainer) -> None:
    """Give a tool that reads checkpoints its options; ``safe_load.reading`` follows them."""
    parser.add_argument(
        '--weights',
        choices=WEIGHTS,
        default=WEIGHTS[0],
        help='of two sets of weights in a checkpoint, those averaged over steps or the raw ones',
    )
    parser.add_argument(
        TRUST,
        action='store_true',
        help='read a checkpoint that holds more than data: it may run any code as you',
    )


def add_analysis_options(
    parser: argparse.ArgumentParser, *, out: str, num_images: int | None, batch_size: int = 64
) -> None:
    """Add the options that all analyses share, with these defaults."""
    add = parser.add_argument
    add(
        'subjects',
        nargs='+',
        metavar='[LABEL=][random:]SOURCE',
        help='networks to compare: a checkpoint, a timm model by name, or NAME:FILE, a timm model '
        'with the weights of a file; random:SOURCE is the same network with random weights',
    )
    images = 'a folder, or "photos": those that scikit-image installs'
    add('--images', '--data', default='photos', metavar='DIR', help=images)
    add('--num-images', type=int, default=num_images, metavar='N', help='images to measure on')
    add('--seed', type=int, default=0, help='of every random choice')
    add('--batch-size', type=int, default=batch_size, metavar='N', help='images in a pass')
    add('--device', help='cpu, cuda, …; by default cuda where there is one')
    add('--out', default=out, metavar='DIR', help='folder of the results')
    add_reading_options(parser)
