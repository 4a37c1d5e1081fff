"""tools/torchrun.py: the exit code of the program, and signals forwarded to it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from toy_run import ROOT, toy_config, write_images

pytestmark = pytest.mark.integration

PROGRAM = """
import os, signal, sys, time
from a2mim.engine.processes import end_with_launcher
end_with_launcher()
rank = os.environ['RANK']
def leave(number, frame):
    open(f'heard_{rank}', 'w').write(signal.Signals(number).name)
    sys.exit(75)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, leave)
open(f'ready_{rank}', 'w').close()
code = int(sys.argv[1])
while code < 0 and not os.path.exists('ready_0'):
    time.sleep(0.1)
if code and rank == '1':
    os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
time.sleep(100)
"""


@pytest.fixture
def start(tmp_path) -> Callable[..., subprocess.Popen]:
    """A function from a program and its arguments to two processes of it."""
    (tmp_path / 'program.py').write_text(PROGRAM)
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key}

    def start(program: str, *args: str) -> subprocess.Popen:
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = str(probe.getsockname()[1])
        return subprocess.Popen(
            ['bash', str(ROOT / 'tools/torchrun.sh'), '2', program, *args],
            cwd=tmp_path,
            env={
                **clean,
                'PYTHON': sys.executable,
                'PORT': port,
                'OMP_NUM_THREADS': '1',
                'CUDA_VISIBLE_DEVICES': '',
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def wait_for(found: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found()


@pytest.mark.parametrize('code', [3, 75])
def test_the_exit_code_is_that_of_the_program_and_nothing_more_is_said(start, code):
    process = start('program.py', str(code))
    _, said = process.communicate(timeout=90)
    assert process.returncode == code
    assert 'Traceback' not in said


def test_where_a_process_is_killed_the_others_save_and_that_is_the_code(start):
    process = start('program.py', str(-signal.SIGKILL))
    _, said = process.communicate(timeout=90)
    assert process.returncode == 75
    assert 'rank 1 was killed by signal 9' in said
    assert 'Traceback' not in said


def test_the_processes_of_a_killed_launcher_are_told_to_end(start, tmp_path):
    process = start('program.py', '0')
    wait_for(lambda: len([*tmp_path.glob('ready_*')]) == 2)
    process.kill()
    wait_for(lambda: len([*tmp_path.glob('heard_*')]) == 2)
    assert (tmp_path / 'heard_0').read_text() == (tmp_path / 'heard_1').read_text() == 'SIGTERM'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_every_process_once(start, tmp_path, number):
    process = start('program.py', '0')
    wait_for(lambda: len([*tmp_path.glob('ready_*')]) == 2)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 75
    assert [(tmp_path / f'heard_{rank}').read_text() for rank in (0, 1)] == [number.name] * 2
    assert 'Traceback' not in said


def test_two_processes_save_together_and_end_with_the_code(start, tmp_path):
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 2)
    toy_config(tmp_path / 'data', train_cfg__max_epochs=30).dump(tmp_path / 'toy.py')
    work_dir: Path = tmp_path / 'out'
    options = ['--launcher', 'pytorch', '--work-dir', 'out']
    process = start(str(ROOT / 'tools/train.py'), 'toy.py', *options)
    wait_for(lambda: [*work_dir.glob('*/vis_data/scalars.json')])
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 75, said
    assert 'Traceback' not in said
    saved = torch.load(work_dir / 'latest.pth', weights_only=False)
    assert (work_dir / f'iter_{saved["meta"]["iter"]}.pth').is_file()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_first_step_ends_two_processes_without_a_page(start, tmp_path, number):
    (tmp_path / 'early.py').write_text(
        'import os, time\n'
        'from a2mim.engine.command_line import one_line_errors\n'
        'from a2mim.engine.launch import FirstIteration\n'
        'with one_line_errors(FirstIteration()):\n'
        "    open('ready_' + os.environ['RANK'], 'w').close()\n"
        '    time.sleep(100)\n'
    )
    process = start('early.py')
    wait_for(lambda: len([*tmp_path.glob('ready_*')]) == 2)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 128 + number, said
    assert 'Traceback' not in said
    assert said.count('before the first step') == (number == signal.SIGINT)


def test_runs_on_one_machine_do_not_share_a_port_and_a_taken_one_is_named(tmp_path):
    (tmp_path / 'program.py').write_text(
        'import os, torch.distributed as dist\n'
        "dist.init_process_group('gloo')\ndist.barrier()\n"
        "os.write(1, (os.environ['MASTER_PORT'] + '\\n').encode())\n"
    )
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key and key != 'PORT'}
    clean |= dict(PYTHON=sys.executable, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')

    def run(**variables: str) -> subprocess.CompletedProcess:
        command = ['bash', str(ROOT / 'tools/torchrun.sh'), '2', 'program.py']
        where = dict(cwd=tmp_path, env={**clean, **variables})
        return subprocess.run(
            command, **where, capture_output=True, text=True, timeout=180, check=False
        )

    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done, refused = run(), run(PORT=port)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first == second != port
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert f'--master_port={port}' in line
    assert 'PORT=NUMBER' in line
