"""tools/slurm_train.sh, with stand-ins for Slurm's own commands."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from toy_run import ROOT

pytestmark = pytest.mark.integration

SCRIPT = ROOT / 'tools/slurm_train.sh'
CALL = ['gpu', 'job', 'config.py', '16']
IN_JOB = dict(SLURM_JOB_ID='42')


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder of commands that write their arguments to a file of their name."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    ends = dict(
        sbatch='',
        scontrol='',
        # Ends with CODE; given none, it waits for a signal, as a training would, and ends with it.
        srun=(
            'leave() { echo "$1" >> signal; exit 75; }\n'
            'trap "leave USR1" USR1; trap "leave TERM" TERM\n'
            '[ -n "${CODE:-}" ] && exit "$CODE"\n'
            'touch running; while :; do sleep 0.05; done\n'
        ),
    )
    for name, end in ends.items():
        text = f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" > {name}.args\n{end}'
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def start(slurm: Path, *options: str, **variables: str) -> subprocess.Popen:
    clean = {key: value for key, value in os.environ.items() if not key.startswith('SLURM')}
    path = f'{slurm}:{os.environ["PATH"]}'
    return subprocess.Popen(
        ['bash', str(SCRIPT), *CALL, *options],
        cwd=slurm.parent,
        env={**clean, 'PATH': path, **variables},
    )


def arguments(slurm: Path, command: str) -> list[str] | None:
    path = slurm.parent / f'{command}.args'
    return path.read_text().splitlines() if path.is_file() else None


def test_the_published_call_waits_for_the_job_and_has_its_exit_code(slurm):
    assert start(slurm, '--amp', CODE='7').wait(30) == 7
    words = arguments(slurm, 'srun')
    assert words[:2] == ['--partition=gpu', '--job-name=job']
    assert {'--ntasks=16', '--gres=gpu:8', '--ntasks-per-node=8', '--signal=USR1@300'} <= {*words}
    assert words[-4:] == ['config.py', '--launcher', 'slurm', '--amp']
    assert arguments(slurm, 'scontrol') is None


@pytest.mark.parametrize('gpus', [None, '4', '16'])
def test_a_work_dir_in_place_of_the_gpus_is_understood(slurm, monkeypatch, gpus):
    monkeypatch.setitem(globals(), 'CALL', ['gpu', 'job', 'config.py', 'work_dirs/16 images'])
    variables = {} if gpus is None else dict(GPUS=gpus)
    assert start(slurm, '--amp', CODE='0', **variables).wait(30) == 0
    words = arguments(slurm, 'srun')
    assert f'--ntasks={gpus or 8}' in words
    tail = ['config.py', '--launcher', 'slurm', '--work-dir', 'work_dirs/16 images', '--amp']
    assert words[-6:] == tail


def test_jobs_of_one_machine_take_different_ports(slurm):
    (slurm / 'srun').write_text('#!/usr/bin/env bash\necho "$MASTER_PORT" >> ports\n')
    for job in ('41', '42'):
        assert start(slurm, SLURM_JOB_ID=job).wait(30) == 0
    assert start(slurm, SLURM_JOB_ID='43', PORT='29511').wait(30) == 0
    first, second, given = (slurm.parent / 'ports').read_text().split()
    assert first != second and 1024 < int(first) < 32768 and given == '29511'


def test_an_evaluation_has_its_own_script(slurm, monkeypatch):
    monkeypatch.setitem(globals(), 'SCRIPT', ROOT / 'tools/slurm_test.sh')
    monkeypatch.setitem(globals(), 'CALL', ['gpu', 'job', 'config.py', 'latest.pth'])
    assert start(slurm, '--out', 'a.json', CODE='7', GPUS='2').wait(30) == 7
    words = arguments(slurm, 'srun')
    assert {'--partition=gpu', '--job-name=job', '--ntasks=2', '--gres=gpu:2'} <= {*words}
    tail = ['config.py', 'latest.pth', '--launcher', 'slurm', '--out', 'a.json']
    assert words[-7:] == [str(ROOT / 'tools/test.py'), *tail]


def test_a_batch_job_is_submitted_with_a_signal_ahead_of_the_limit(slurm):
    assert start(slurm, SBATCH='1', GRACE='120', SBATCH_ARGS='--time=1:00 --mem=8G').wait(30) == 0
    words = arguments(slurm, 'sbatch')
    wanted = {'--signal=B:USR1@120', '--requeue', '--open-mode=append', '--time=1:00', '--mem=8G'}
    assert wanted <= {*words}
    assert words[-5:] == [str(SCRIPT), *CALL]


def test_a_submitted_copy_finds_the_tools_where_it_was_submitted(slurm):
    copy = slurm.parent / 'slurm_script'
    copy.write_text(SCRIPT.read_text())
    environment = {**os.environ, 'PATH': f'{slurm}:{os.environ["PATH"]}', 'CODE': '0', **IN_JOB}
    environment['SLURM_SUBMIT_DIR'] = str(ROOT)
    subprocess.run(['bash', str(copy), *CALL], cwd=slurm.parent, env=environment, check=True)
    assert f'{ROOT}/tools/train.py' in arguments(slurm, 'srun')


@pytest.mark.parametrize('code, queued', [('0', False), ('1', False), ('3', False), ('75', True)])
def test_a_job_requeues_itself_on_exit_code_75_only(slurm, code, queued):
    assert start(slurm, CODE=code, **IN_JOB).wait(30) == int(code)
    assert arguments(slurm, 'scontrol') == (['requeue', '42'] if queued else None)


@pytest.mark.parametrize(
    'number, queued', [(signal.SIGUSR1, ['requeue', '42']), (signal.SIGTERM, None)]
)
def test_a_signal_reaches_the_training_and_a_cancelled_job_is_not_requeued(slurm, number, queued):
    job = start(slurm, **IN_JOB)
    deadline = time.monotonic() + 20
    while not (slurm.parent / 'running').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(number)
    assert job.wait(30) == 75
    assert (slurm.parent / 'signal').read_text().split() == [number.name.removeprefix('SIG')]
    assert arguments(slurm, 'scontrol') == queued


@pytest.mark.parametrize(
    'options, first, later',
    [
        ([], ['--resume', 'auto'], ['--resume', 'auto']),
        (['--resume', 'a.pth'], ['--resume', 'a.pth'], ['--resume', 'auto']),
        (['--load-checkpoint=a.pth'], ['--load-checkpoint=a.pth'], ['--resume', 'auto']),
        (['--auto-resume', '--amp'], ['--auto-resume', '--amp'], ['--amp', '--resume', 'auto']),
    ],
)
def test_a_requeued_job_resumes(slurm, options, first, later):
    for count, expected in (('0', first), ('1', later)):
        start(slurm, *options, CODE='0', SLURM_RESTART_COUNT=count, **IN_JOB).wait(30)
        words = arguments(slurm, 'srun')
        assert words[words.index('slurm') + 1 :] == expected
