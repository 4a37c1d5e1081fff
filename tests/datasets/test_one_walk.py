"""The processes of a run walk a folder once, and have one list of its images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toy_run import ROOT

SCRIPT = Path(__file__).with_name('two_processes_walk.py')
# Names that are no UTF-8 are as good as others.
NAMES = [b'a/1.png', b'a/deep/er/2.JPG', b'b/\xff 3.png', b'b/.hidden.png', b'b/notes.txt']


@pytest.fixture(scope='module')
def found(tmp_path_factory) -> list[list[dict]]:
    """What both processes found in ``images``, and in a folder without any."""
    folder = tmp_path_factory.mktemp('two')
    (folder / 'empty').mkdir()
    for name in NAMES:
        path = Path(os.fsdecode(os.fsencode(folder / 'images') + b'/' + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(folder / 'images'), str(folder / 'empty')],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        timeout=120,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in (0, 1)]


@pytest.mark.integration
def test_the_first_process_walks_and_all_have_its_list(found):
    (first, _), (second, _) = found
    assert [name.partition('/images/')[2] for name in first['names']] == [
        os.fsdecode(name) for name in NAMES[:3]
    ]
    assert first['names'] == second['names']
    assert first['labels'] == second['labels'] == [0, 0, 1]
    assert second['walks'] == 0
    # A data set that one process builds by itself waits for nobody, and sees what is there now.
    assert first['walks'] == 2
    assert first['alone'] == 5


@pytest.mark.integration
def test_no_process_waits_where_the_first_finds_no_image(found):
    (_, first), (_, second) = found
    assert first['error'] == second['error']
    assert 'no image in root=' in first['error']
