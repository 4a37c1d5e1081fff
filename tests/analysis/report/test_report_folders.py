"""Folders that are none of ours, or not finished; entries of the command line; the file itself."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from a2mim.analysis import Results
from a2mim.analysis.report import check_report_path, read_entry, write_report
from a2mim.analysis.report_page import GENERATOR, read_result_folder

OURS = f'<!DOCTYPE html>\n<meta name="generator" content="{GENERATOR}">\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    results = Results(tmp_path / 'one', 'One', dict(seed=0))
    results.add_figure(Figure(figsize=(1, 1)), 'picture', 'A picture.')
    results.add_table([dict(a=1, b='x,y')], 'numbers', 'Numbers.')
    results.finish()
    return tmp_path / 'one'


def test_a_finished_folder_is_read_as_it_was_written(folder: Path) -> None:
    found = read_result_folder(folder)
    assert (found.title, found.settings) == ('One', dict(seed=0))
    assert [(figure.caption, figure.png[1:4]) for figure in found.figures] == [
        ('A picture.', b'PNG')
    ]
    (table,) = found.tables
    assert (table.columns, table.rows, table.caption) == (['a', 'b'], [['1', 'x,y']], 'Numbers.')


def test_an_interrupted_measurement_is_refused(folder: Path) -> None:
    (folder / 'result.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'one has no result\.json.*interrupted'):
        read_result_folder(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='none: there is no such folder of results'):
        read_result_folder(tmp_path / 'none')


@pytest.mark.parametrize(
    'text',
    ['{', '[]', '{}', '"text"', '{"title": "x", "figures": 3}', '\ufeff{"a": 1}', '[' * 10**5],
)
def test_a_corrupt_index_is_refused(folder: Path, text: str) -> None:
    (folder / 'result.json').write_text(text, encoding='utf-8')
    with pytest.raises(ValueError, match=r'result\.json is damaged .*; measure again'):
        read_result_folder(folder)


@pytest.mark.parametrize(
    'name, content, error, message',
    [
        ('picture.png', None, FileNotFoundError, r'picture\.png is missing'),
        ('picture.png', b'GIF89a', ValueError, r'picture\.png is not a PNG'),
        ('picture.png', b'\x89PNG\r\n\x1a\n..', ValueError, r'picture\.png is not a PNG'),
        ('picture.png', b'\x89PNG\r\n\x1a\n' + bytes(40), ValueError, r'picture\.png is not a PNG'),
        ('numbers.csv', b'', ValueError, r'numbers\.csv has rows of different lengths'),
        ('numbers.csv', b'a,b\n1\n', ValueError, r'numbers\.csv has rows of different lengths'),
        ('numbers.csv', b'\xff\xfe', ValueError, r'numbers\.csv is not a table'),
    ],
)
def test_damaged_files_are_refused(folder, name, content, error, message) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(error, match=message):
        read_result_folder(folder)


@pytest.mark.parametrize('name', ['../secret.png', '/etc/secret.png', 'sub/secret.png'])
def test_nothing_outside_the_folder_is_read(folder: Path, name: str) -> None:
    index = json.loads((folder / 'result.json').read_text())
    index['figures'][0]['file'] = name
    (folder / 'result.json').write_text(json.dumps(index))
    with pytest.raises(ValueError, match='which is not a file in its folder'):
        read_result_folder(folder)


def test_a_link_out_of_the_folder_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / 'secret').mkdir()
    (folder / 'numbers.csv').rename(tmp_path / 'secret/numbers.csv')
    (folder / 'numbers.csv').symlink_to(tmp_path / 'secret/numbers.csv')
    with pytest.raises(ValueError, match='which is not a file in its folder'):
        read_result_folder(folder)


def make_run(path: Path, *, logs: bool = True) -> Path:
    (path / '20260101_000000/vis_data').mkdir(parents=True)
    (path / 'latest.pth').touch()
    if logs:
        (path / '20260101_000000/vis_data/scalars.json').touch()
    return path


def test_a_work_dir_is_its_latest_checkpoint_and_its_logs(tmp_path: Path) -> None:
    run = make_run(tmp_path / 'run')
    named, plain = read_entry(f'Name={run}'), read_entry(str(run))
    assert (named.text, named.work_dir) == (f'Name={run}/latest.pth', run)
    assert (plain.text, plain.work_dir) == (f'run={run}/latest.pth', run)
    random = read_entry(f'random:{run}')
    assert (random.text, random.work_dir) == (f'random run=random:{run}/latest.pth', None)
    assert read_entry(str(make_run(tmp_path / 'quiet', logs=False))).work_dir is None


@pytest.mark.parametrize('text', ['random:resnet18', 'Name=some/file.pth', 'resnet18.a1_in1k'])
def test_what_is_no_folder_is_left_to_read_subject(text: str) -> None:
    assert (read_entry(text).text, read_entry(text).work_dir) == (text, None)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'has no latest\.pth: it is not the work dir'):
        read_entry(f'Name={tmp_path}')
    with pytest.raises(ValueError, match=r'is a folder of results: give it as --results'):
        read_entry(str(folder))


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / 'new/report.html'
    write_report(path, OURS)
    write_report(path, f'{OURS}ß')
    assert path.read_text(encoding='utf-8') == f'{OURS}ß'
    assert list(path.parent.iterdir()) == [path]
    path.write_text('<html>precious</html>')
    with pytest.raises(FileExistsError, match='not a report of this tool and is not overwritten'):
        write_report(path, OURS)
    assert path.read_text() == '<html>precious</html>'


def test_a_report_is_a_file_of_html(tmp_path: Path) -> None:
    (tmp_path / 'folder.html').mkdir()
    with pytest.raises(IsADirectoryError, match='is a folder'):
        check_report_path(tmp_path / 'folder.html')
    with pytest.raises(ValueError, match=r'must end in \.html'):
        check_report_path(tmp_path / 'report.pdf')
