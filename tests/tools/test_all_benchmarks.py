"""All benchmarks run by one command, and its table has what they printed; speed is not tested."""

import json
import runpy
import shlex
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from toy_run import ROOT, load_tool

FOLDER = ROOT / 'tools/benchmarks'
TEXT = """a machine

| a | ratio | b |
|---|---:|---:|
| one | **1.5** | 2 |

| network | batch | ratio | lowest – highest |
|---|---:|---:|---|
| resnet50 | 16 | **0.93** | 0.9 – 1.0 |
| vit_base | 4 | **0.99** | |
"""


class Taken(BaseException):
    """Raised once a script has parsed its arguments, so that it does not run."""


@pytest.fixture
def tool(monkeypatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: load_tool(f'benchmarks/{name}')


def test_a_figure_is_found_by_row_and_columns(tool):
    benchmarks = tool('all')
    table = benchmarks.tables(TEXT)[-1]
    assert len(benchmarks.tables(TEXT)) == 2 and len(table) == 2

    def value(row: str, *columns: str) -> str | None:
        return benchmarks.value_of(benchmarks.Figure('', '', row, columns), table)

    assert value('resnet50', 'ratio') == '0.93'
    assert value('resnet50', 'batch', 'lowest') == '16, 0.9 – 1.0'
    assert value('', 'ratio') == '0.99'  # the last row
    assert value('convnext', 'ratio') is None
    assert value('resnet50', 'b', 'c') is None


def test_every_script_takes_its_options(tool, monkeypatch):
    parse = ArgumentParser.parse_args

    def stop(parser: ArgumentParser, *args: object) -> None:
        parse(parser, *args)
        raise Taken

    monkeypatch.setattr(ArgumentParser, 'parse_args', stop)
    for benchmark in tool('all').BENCHMARKS:
        script, *options = shlex.split(benchmark.words)
        for argv in (options, shlex.split(benchmark.tiny)):
            monkeypatch.setattr('sys.argv', [script, *argv])
            with pytest.raises(Taken):
                runpy.run_path(str(FOLDER / script), run_name='__main__')


@pytest.mark.integration
def test_the_scripts_run_and_what_is_done_is_not_repeated(tool, tmp_path, capsys, monkeypatch):
    benchmarks, file = tool('all'), tmp_path / 'figures.json'
    argv = ['--json', str(file), '--tiny', '--only', 'history.py', 'index_memory.py']
    argv.append('two_processes.py')
    benchmarks.main(argv)
    found = json.loads(file.read_text())
    assert [result['code'] for result in found.values()] == [0] * 3, found
    rows = {row['measure']: row for row in benchmarks.tables(capsys.readouterr().out)[-1]}
    assert rows['two processes, ResNet-50: host waits']['measured'] == '0'
    # One collective of each batch norm in each direction.
    layers = rows['its batch norms; collectives forward, backward']['measured'].split(', ')
    assert layers == ['14'] * 3
    assert float(rows['step at 1 M history / at 1 k']['measured']) > 0
    assert rows['loader / classic path']['measured'] == 'not measured'
    monkeypatch.setattr(benchmarks, 'run', lambda words: pytest.fail(f'{words} is repeated'))
    benchmarks.main(argv)
    again = capsys.readouterr().out
    assert benchmarks.tables(again)[-1] == [*rows.values()]


def checkout(folder: Path, code: str) -> Path:
    (folder / 'tools').mkdir(parents=True)
    (folder / 'tools/train.py').write_text(code)
    return folder


def test_the_clock_of_a_start_stops_at_the_first_step_or_says_what_went_wrong(tool, tmp_path):
    start_up = tool('start_up')
    says = 'import time\nprint("Epoch(train) [1][1/2]  loss: 1", flush=True)\ntime.sleep(100)\n'
    started = time.monotonic()
    start_up.run_to_first_step(checkout(tmp_path / 'good', says))
    assert time.monotonic() - started < 50  # it was ended
    with pytest.raises(RuntimeError, match='no images here'):
        start_up.run_to_first_step(checkout(tmp_path / 'bad', 'raise SystemExit("no images here")'))


@pytest.mark.integration
def test_a_million_values_are_in_the_run_that_is_measured(tool, tmp_path, monkeypatch):
    history, seen = tool('history'), {}

    def look(forms: dict, args: object) -> dict:
        for name, step in forms.items():
            run = step.__self__
            hub = run.runner.message_hub
            seen[name] = len(hub.get_info('curves')['loss']['means'])
            step()
            assert run.runner.iter == 1
        return {name: [1.0] for name in forms}

    monkeypatch.setattr(history, 'take_turns', look)
    history.main(['--lengths', '10', '100000'])
    assert seen['10'] == 10 and seen['100000'] > 500
