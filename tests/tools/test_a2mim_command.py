"""The command ``a2mim``: each part shows its help without torch, and mistakes are one line."""

import os
import subprocess
import sys

import pytest
from mmengine import Config

from a2mim import __version__
from a2mim.__main__ import COMMANDS, main
from a2mim.engine.command_line import one_line_errors
from a2mim.recipes import find_recipe, recipe_files
from toy_run import ROOT, load_tool, write_images

# Forks, so that Python starts once; what a command imports stays in its fork.
DRIVER = """
import contextlib, io, os, sys
from a2mim.__main__ import main

for name in sys.argv[1:]:
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit(f'{name}: exit code {os.waitstatus_to_exitcode(status)}')
        continue
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            main(name.split())
    except SystemExit as end:
        heavy = {'torch', 'timm', 'matplotlib', 'transformers'} & {*sys.modules}
        said = text.getvalue()
        start = f'  a2mim {name.split()[0]}'
        calls = [line for line in said.splitlines() if line.startswith(start)]
        print(name, 'exit', end.code, 'heavy', sorted(heavy), 'examples', len(calls) >= 2)
        sys.stdout.flush()
        os._exit(0)
    os._exit(1)
"""


@pytest.fixture(autouse=True)
def program(monkeypatch):
    """The command renames its program."""
    monkeypatch.setattr('sys.argv', ['a2mim'])


def call(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', 'a2mim', *arguments],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.integration
def test_every_command_shows_its_help_with_two_examples_and_without_torch():
    names = [f'{name} --help' for name in COMMANDS]
    done = subprocess.run(
        [sys.executable, '-c', DRIVER, *names],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [f'{name} exit 0 heavy [] examples True' for name in names]
    assert done.stdout.splitlines() == expected


def test_the_list_has_every_command_and_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as end:
        main(['--help'])
    assert end.value.code == 0
    words = capsys.readouterr().out.split()
    assert {*COMMANDS} <= {*words}
    with pytest.raises(SystemExit):
        main(['--version'])
    assert capsys.readouterr().out == f'a2mim {__version__}\n'


@pytest.mark.parametrize(('wrong', 'meant'), [('pretran', 'pretrain'), ('qqq', '`a2mim --help`')])
def test_an_unknown_command_is_one_line_with_the_nearest(wrong, meant, capsys):
    with pytest.raises(SystemExit) as end:
        main([wrong, '--data', 'x'])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and repr(wrong) in said and meant in said


@pytest.mark.integration
def test_a_tool_runs_in_an_empty_folder_and_returns_its_exit_code(tmp_path):
    write_images(tmp_path / 'photos', 2)
    (tmp_path / 'photos' / 'bad.png').write_bytes(b'\x89PNG')
    done = call('verify', '--data', 'photos', '--workers', '0', cwd=tmp_path)
    assert done.returncode == 1 and "'photos/bad.png'" in done.stdout
    done = call('verify', cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and 'DIR, or --data DIR' in done.stderr


def test_one_name_for_one_thing_and_the_old_spellings():
    train, stats = load_tool('train').parse_args, load_tool('prepare_data/compute_stats').parse_args
    for words in (['--data', 'D', '--out', 'O'], ['--data-root', 'D', '--work-dir', 'O']):
        args = train(['c.py', *words, '--from', 'w.pth'])
        assert (args.data_root, args.work_dir, args.pretrained) == ('D', 'O', 'w.pth')
    for words in (['D', '--max-images', '3'], ['--num-images', '3', '--data', 'D']):
        args = stats([*words, '--workers', '2'])
        assert (args.root, args.max_images) == ('D', 3)
    assert stats(['--workers', '2', 'D', '--channels', '1']).root == 'D'
    assert train(['c.py']).work_dir is None


@pytest.mark.parametrize('short', [True, False])
def test_a_recipe_is_found_by_its_name_or_its_path(short):
    key = 'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300'
    name = key.rpartition('/')[2] if short else f'configs/{key}.py'
    assert find_recipe(name) == recipe_files()[key] == ROOT / 'configs' / f'{key}.py'


def test_a_wrong_recipe_is_told_near_ones(capsys):
    with pytest.raises(KeyError, match='a2mim_resnet18_1xb64-cos-15e_photos-64px'):
        find_recipe('a2mim_resnet18_1xb64-cos-15e_photo-64px')
    with pytest.raises(SystemExit) as end, one_line_errors():
        find_recipe('zzzzzz')
    assert end.value.code == 2
    assert 'a2mim recipes ls' in capsys.readouterr().err


def test_a_copied_recipe_is_the_whole_config_and_replaces_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = 'a2mim_resnet18_1xb64-cos-15e_photos-64px'
    with pytest.raises(SystemExit):
        main(['recipes', 'cp', name, 'my.py'])
    assert Config.fromfile('my.py').to_dict() == Config.fromfile(find_recipe(name)).to_dict()
    with pytest.raises(SystemExit) as end:
        main(['recipes', 'cp', name, 'my.py'])
    assert end.value.code == 2
    assert 'my.py exists' in capsys.readouterr().err


def test_every_recipe_has_a_title_and_none_is_a_base(capsys):
    with pytest.raises(SystemExit):
        main(['recipes', 'ls', '*cifar10/*'])
    said = capsys.readouterr().out
    files = [key for key in recipe_files() if 'cifar10/' in key]
    assert all(key in said for key in files) and f'{len(files)} recipes' in said
    assert not any('_base_/' in key for key in recipe_files())
