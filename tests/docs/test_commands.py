"""Every command on a page, with its options, is accepted by its tool."""

import importlib
import re
import runpy
import shlex
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import pytest

from a2mim.__main__ import COMMANDS, names_config
from toy_run import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
TOOL = re.compile(r'python ((?:analysis_)?tools/[\w/]+\.py)(.*)')
COMMAND = re.compile(r'^ *a2mim ([a-z]+)(.*)')
BLOCK = re.compile(r'^```(?:bash)?\n(.*?)^```|((?:^    [^\n]*\n)+)', re.MULTILINE | re.DOTALL)
# Signs that a line shows what a command looks like.
PATTERN = re.compile(r'\.\.\.|…|[\[\]{}|]')
# Words for which a reader puts one of a few, or a number.
STANDING_FOR = dict(MODE='noise', STUDY='shuffle', EPOCHS='300', LAST_N='20')


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Tool and arguments of every command in the blocks of a page."""
    found = []
    for fenced, indented in BLOCK.findall(page.read_text(encoding='utf-8')):
        lines = (fenced or indented).replace('\\\n', ' ').splitlines()
        lines = [as_tool(line.split(' # ')[0]) for line in lines]
        for match in filter(None, map(TOOL.search, lines)):
            if not PATTERN.search(match[2]):
                words = [STANDING_FOR.get(word, word) for word in shlex.split(match[2])]
                found.append((match[1], words))
    return found


def as_tool(line: str) -> str:
    """A call of the command ``a2mim`` as a call of the tool that it runs, where it runs one."""
    match = COMMAND.match(line)
    if match is None or not COMMANDS[match[1]].program.endswith('.py') or from_folder(line):
        return line
    return f'python tools/{COMMANDS[match[1]].program}{match[2]}'


def from_folder(line: str) -> str | None:
    """The module that runs a training of which the line gives a folder and no config."""
    match = COMMAND.match(line)
    if match is None or names_config(shlex.split(match[2])):
        return None
    return COMMANDS[match[1]].from_folder


class Taken(BaseException):
    """Raised once a tool has parsed its arguments, so that it does not run."""


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('parse_args', 'parse_intermixed_args'):
        parse = getattr(ArgumentParser, name)

        def stop(parser: ArgumentParser, *args: object, parse: Callable = parse) -> None:
            parse(parser, *args)
            raise Taken

        monkeypatch.setattr(ArgumentParser, name, stop)


@pytest.mark.usefixtures('only_parse')
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_tools_take_the_commands_of_the_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool, arguments in commands(page):
        monkeypatch.setattr('sys.argv', [tool, *arguments])
        monkeypatch.syspath_prepend((ROOT / tool).parent)  # as Python does for a script
        try:
            runpy.run_path(str(ROOT / tool), run_name='__main__')
        except Taken:
            continue
        except SystemExit:
            pytest.fail(f'{page.name}: {tool} does not take {arguments}')


def test_trainings_from_a_folder_take_the_options_of_the_pages() -> None:
    lines = [
        line.split(' # ')[0]
        for page in PAGES
        for fenced, indented in BLOCK.findall(page.read_text(encoding='utf-8'))
        for line in (fenced or indented).replace('\\\n', ' ').splitlines()
        if COMMAND.match(line) and from_folder(line)
    ]
    assert len(lines) >= 5
    for line in filter(lambda line: not PATTERN.search(line), lines):
        module = importlib.import_module(str(from_folder(line)))
        assert module.parser().parse_args(shlex.split(line)[2:]).data


def test_commands_are_found() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 60
