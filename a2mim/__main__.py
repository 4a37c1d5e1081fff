"""a2mim: pre-train a vision backbone on your own unlabelled images by masked image modelling.

``a2mim COMMAND`` runs a program of tools/, which a wheel carries below ``a2mim/.mim``, or a module
of the package. Nothing here imports torch: help is shown at once.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from a2mim.errors import USER_ERROR
from a2mim.options import SHIPPED, Parser
from a2mim.version import __version__

CONFIGS = ('.py', '.yaml', '.yml', '.json')


class Command(NamedTuple):
    """A program: a file below tools/, or a module with ``main(argv)``.

    Attributes:
        program: The file or the module.
        summary: For the list of commands.
        from_folder: The module that runs in its place where no config is given.
    """

    program: str
    summary: str
    from_folder: str | None = None


GROUPS = {
    'train and evaluate': {
        'quickstart': Command('quickstart.py', 'pre-train on photographs and compare: minutes'),
        'pretrain': Command(
            'train.py',
            'pre-train on a folder, or what a config describes',
            'a2mim.own_data.pretrain',
        ),
        'finetune': Command(
            'train.py', 'fine-tune on class folders, with --from RUN', 'a2mim.own_data.finetune'
        ),
        'test': Command('test.py', 'metrics of a checkpoint'),
        'probe': Command(
            'analysis_tools/evaluate_features.py', 'nearest neighbours and linear probe of features'
        ),
        'embed': Command('analysis_tools/embed.py', 'one vector of features for each image'),
        'report': Command('analysis_tools/report.py', 'compare networks in one HTML file'),
    },
    'weights': {
        'extract': Command(
            'model_converters/extract_backbone_weights.py', 'the backbone of a checkpoint'
        ),
        'export': Command(
            'model_converters/export_backbone.py', 'for timm, torchvision, HuggingFace, ONNX, …'
        ),
        'publish': Command('model_converters/publish_model.py', 'weights and config alone'),
    },
    'data': {
        'verify': Command('prepare_data/verify_dataset.py', 'find images that cannot be read'),
        'stats': Command('prepare_data/compute_stats.py', 'mean, deviation and range of pixels'),
        'shards': Command('prepare_data/make_shards.py', 'copy images into tar files or LMDB'),
    },
    'look up': {
        'recipes': Command('a2mim.recipes', 'list, show and copy the published configs'),
        'models': Command(
            'analysis_tools/list_stages.py', 'where a mask token can go in a timm model'
        ),
        'doctor': Command('a2mim.doctor.__main__', 'check this machine and installation'),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def listing() -> str:
    """Every command with its summary, by group."""
    lines = []
    for title, commands in GROUPS.items():
        lines += [f'{title}:', *(f'  {name:<12}{c.summary}' for name, c in commands.items()), '']
    return '\n'.join([*lines, '`a2mim COMMAND --help` shows its options and examples.'])


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Read the name of the command; what follows it is for the command."""
    title = (__doc__ or '').splitlines()[0]
    parser = Parser(title, prog='a2mim', epilog=listing())
    parser.add_argument('--version', action='version', version=f'a2mim {__version__}')
    parser.add_argument('command', metavar='COMMAND', help='one of those below')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, metavar='…', help='its arguments')
    args = parser.parse_args(argv[:1])
    args.arguments = [*argv[1:]]
    if args.command not in COMMANDS:
        near = get_close_matches(args.command, COMMANDS, n=1) or ['one of `a2mim --help`']
        parser.exit(USER_ERROR, f'error: there is no command {args.command!r}; use {near[0]}\n')
    return args


def names_config(arguments: Sequence[str]) -> bool:
    """Whether there is a config among the arguments of a training: its place is the first.

    Among options it is told by its suffix.
    """
    if arguments and not arguments[0].startswith('-'):
        return True
    return any(
        word.endswith(CONFIGS) and not word.startswith('-') and '=' not in word
        for before, word in pairwise(arguments)
        if before not in ('--from', '--pretrained', '--backbone')
    )


def run_file(path: Path) -> None:
    """Run a program as ``python path`` does, but under the name in ``sys.argv``."""
    spec = importlib.util.spec_from_file_location('__main__', path)
    assert spec and spec.loader, path
    module = sys.modules['__main__'] = importlib.util.module_from_spec(spec)
    # Processes that start afresh then find its functions by its file.
    module.__spec__ = None
    spec.loader.exec_module(module)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv or sys.argv[1:] or ['--help'])
    command = COMMANDS[args.command]
    folder = None if names_config(args.arguments) else command.from_folder
    program = folder or command.program
    # argparse takes the name of the program from here, and processes that it starts the arguments.
    sys.argv = [f'a2mim {args.command}', *args.arguments]
    if program.endswith('.py'):
        run_file((SHIPPED / 'tools').resolve() / program)
    else:
        sys.exit(importlib.import_module(program).main(args.arguments))


if __name__ == '__main__':
    main()
