"""The configs that the package ships: list, show and copy them.

A name is the file's, without .py, or the path below configs/ where several files have one name. A
copy is one file with everything that the config inherits.
"""

import argparse
import ast
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console

from a2mim.engine.command_line import one_line_errors
from a2mim.options import Parser
from a2mim.weights.config_files import read_config
from a2mim.weights.released import find_config as find_recipe
from a2mim.weights.released import recipe_files


def title_of(path: Path) -> str:
    """The first line of a config's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return text.partition('\n')[0]


def whole_text(path: Path) -> str:
    """The config with what it inherits, as the text of one Python file."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or path.stem
    return f'"""{doc}\n"""\n\n{read_config(path).pretty_text}'


def list_recipes(args: argparse.Namespace) -> None:
    """Print the names that match, each with its title."""
    console = Console()
    found = [(key, path) for key, path in recipe_files().items() if fnmatchcase(key, args.pattern)]
    for key, path in found:
        console.print(key, markup=False, highlight=False, soft_wrap=True)
        console.print(f'    {title_of(path)}', markup=False, style='dim', soft_wrap=True)
    console.print(f'{len(found)} recipes; `a2mim recipes cp NAME my.py` copies one', soft_wrap=True)


def show_recipe(args: argparse.Namespace) -> None:
    """Print the whole text."""
    Console().out(whole_text(find_recipe(args.name)), highlight=False, end='')


def copy_recipe(args: argparse.Namespace) -> None:
    """Write the whole text to a file.

    Raises:
        FileExistsError: If it is there and ``--force`` is not given.
    """
    text, out = whole_text(find_recipe(args.name)), Path(args.out or f'{Path(args.name).stem}.py')
    if out.suffix != '.py':
        raise ValueError(f'{out} must end in .py: it is a Python file')
    if out.exists() and not args.force:
        raise FileExistsError(f'{out} exists; choose another name or add --force')
    out.write_text(text, encoding='utf-8')
    Console().print(f'wrote {out}; run it: a2mim pretrain {out}', soft_wrap=True, highlight=False)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = ["ls '*a2mim*imagenet/r50*'", 'cp a2mim_resnet50_1xb128-cos-auto_folder-224px my.py']
    parser = Parser(__doc__, examples)
    actions = parser.add_subparsers(metavar='ls|show|cp', required=True, parser_class=Parser)
    add = actions.add_parser('ls', description='List names and titles.', help='list them')
    add.add_argument('pattern', nargs='?', default='*', help='with *, ? and […]')
    add.set_defaults(run=list_recipes)
    add = actions.add_parser('show', description='Print the whole config.', help='print one')
    add.add_argument('name', metavar='NAME', help='of a recipe')
    add.set_defaults(run=show_recipe)
    add = actions.add_parser('cp', description='Copy a config, whole.', help='copy one to a file')
    add.add_argument('name', metavar='NAME', help='of a recipe')
    add.add_argument('out', nargs='?', metavar='OUT.py', help='by default NAME.py, here')
    add.add_argument('--force', action='store_true', help='overwrite OUT if it is there')
    add.set_defaults(run=copy_recipe)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        args.run(args)
