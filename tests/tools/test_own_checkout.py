"""Programs find the package of their own checkout, from any folder, installed or not."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from toy_run import ROOT

PROGRAMS = sorted(
    path
    for folder in ('tools', 'analysis_tools', 'det_mmdetection', 'seg_mmsegmentation')
    for path in (ROOT / folder).rglob('*.py')
    if "if __name__ == '__main__':" in path.read_text(encoding='utf-8')
    # It is started by others, with a file and a command.
    and path.name != 'traced_run.py'
)
# One process imports what all of them import, and forks: each alone takes seconds.
DRIVER = """
import os, runpy, sys
import matplotlib.pyplot, mmengine.runner, timm, torch

root = sys.argv[1]
for program in sys.stdin.read().split():
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit(f'{program}: exit code {os.waitstatus_to_exitcode(status)}')
        continue
    # As `python PROGRAM --help`, from another folder; without -S it would be the installed one.
    sys.argv, sys.path[0] = [program, '--help'], os.path.dirname(program)
    try:
        runpy.run_path(program, run_name='__main__')
    except SystemExit as end:
        found = getattr(sys.modules.get('a2mim'), '__file__', None)  # not all need the package
        assert found in (None, root + '/a2mim/__init__.py'), found
        assert not end.code
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
"""


def test_every_folder_with_programs_has_the_link_to_the_package():
    folders = {path.parent for path in PROGRAMS}
    assert len(folders) >= 13
    for folder in folders:
        assert (folder / 'a2mim.py').resolve() == ROOT / 'tools/a2mim.py', folder


@pytest.mark.integration
def test_every_program_shows_its_help_where_no_package_is_installed(tmp_path):
    packages = sysconfig.get_paths()['purelib']
    # Without site, an editable installation is not found.
    isolated = dict(PYTHONPATH=packages, OMP_NUM_THREADS='1', MPLBACKEND='agg', HOME=str(tmp_path))
    absent = subprocess.run(
        [sys.executable, '-S', '-c', 'import a2mim'],
        cwd=tmp_path,
        env=isolated,
        capture_output=True,
        check=False,
    )
    if absent.returncode == 0:
        pytest.skip('a2mim is installed as files among the other packages')
    done = subprocess.run(
        [sys.executable, '-S', '-c', DRIVER, str(ROOT)],
        input='\n'.join(map(str, PROGRAMS)),
        cwd=tmp_path,
        env={**isolated, 'PATH': str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('usage: ') == len(PROGRAMS)
