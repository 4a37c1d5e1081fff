"""What a person sees of a training, in a terminal of 80 columns and in a file."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine import Config
from mmengine.logging import MessageHub

from a2mim.engine.log_lines import fold
from a2mim.engine.progress import ProgressHook, summary
from toy_run import ROOT, toy_config, write_images

COLUMNS = 80
SEQUENCE = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')


@pytest.mark.parametrize(
    ('columns', 'shown'),
    [
        ('72', 'epoch 1/20  0:09  spatial 0.3421  spectral 0.1204  8.17 images/s'),
        ('60', 'epoch 1/20  0:09  spatial 0.3421  spectral 0.1204'),
        ('20', 'epoch 1/20  0:09'),
    ],
)
def test_a_line_above_the_bar_ends_with_a_whole_number(columns, shown, monkeypatch):
    monkeypatch.setenv('COLUMNS', columns)
    line = 'epoch 1/20  0:09  spatial 0.3421  spectral 0.1204  8.17 images/s  data wait 12%'
    assert ProgressHook._fitting(line).plain == shown


@pytest.mark.parametrize('width', [20, 80, 160])
def test_lines_are_folded_at_blanks_and_lose_no_word(width):
    line = '2026/11/28 21:29:39 - mmengine - INFO - ' + 'loss: 0.3556  lr: 1e-3  ' * 20
    parts = fold(line, width).split('\n')
    assert max(map(len, parts)) <= width
    assert ' '.join(parts).split() == line.split()
    assert '\r' not in fold('a\rb', width)
    assert all(len(part) <= 20 for part in fold('x' * 99, 20).split('\n'))


@pytest.mark.parametrize(
    ('epoch', 'steps', 'said'), [(4, 12, '4 of 4 epochs'), (0, 12, '12 of 12 iterations')]
)
def test_a_summary_counts_as_its_loop_does_and_names_the_program_of_its_kind(
    epoch, steps, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'latest.pth').touch()
    by_epoch = epoch > 0  # else a segmentor, whose epochs are not counted
    runner = SimpleNamespace(
        epoch=epoch,
        max_epochs=max(epoch, 1),
        iter=steps,
        max_iters=steps,
        train_dataloader=[None] * 3,
        message_hub=MessageHub('summary'),
        work_dir=str(tmp_path),
        val_loop=object(),
        cfg=Config({} if by_epoch else dict(custom_imports=dict(imports=['a2mim.transfer']))),
    )
    lines = summary(runner, 0, 60.0)
    assert lines[0] == f'complete: {said}, 12 steps in 1.0 min'
    test = 'python tools/test.py' if by_epoch else 'python -m a2mim.transfer.test'
    assert lines[-1] == f'next: {test} config.py latest.pth'


def command(folder: Path, name: str, *options: str) -> list[str]:
    """Train four epochs of twelve steps each into ``folder/name``."""
    if not (folder / 'toy.py').exists():
        write_images(folder / 'a long name of a folder of images, as people have them/train', 4)
        write_images(folder / 'a long name of a folder of images, as people have them/val', 1)
        cfg = toy_config(folder / 'a long name of a folder of images, as people have them')
        cfg.train_dataloader.batch_size = 1
        cfg.auto_scale_lr.base_batch_size = 1
        cfg.default_hooks.logger.interval = 50
        cfg.visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
        cfg.log_processor = dict(type='SpeedLogProcessor')
        cfg.dump(folder / 'toy.py')
    script = str(ROOT / 'tools/train.py')
    return [sys.executable, script, 'toy.py', '--work-dir', name, *options]


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ('COLUMNS', 'LINES')}
    return {**kept, 'TERM': 'xterm', 'OMP_NUM_THREADS': '1', 'PYTHONUTF8': '1'}


def in_terminal(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit code of a command, and all that it has sent to a terminal of ``COLUMNS``."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, COLUMNS, 0, 0))
    streams = dict(stdin=theirs, stdout=theirs, stderr=theirs)
    process = subprocess.Popen(words, cwd=folder, env=environment(), **streams)
    os.close(theirs)
    received = b''
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other side is closed
            break
        received += part
        if not part:
            break
    os.close(ours)
    return process.wait(), received.decode()


@pytest.mark.integration
def test_a_terminal_has_a_bar_and_no_line_wraps(tmp_path):
    code, sent = in_terminal(command(tmp_path, 'run'), tmp_path)
    assert code == 0, sent
    lines = re.split(r'[\r\n]+', SEQUENCE.sub('', sent))
    assert max(map(len, lines)) < COLUMNS
    assert any(re.match(r'epoch [1-4]/4 [━╌]{20} step \d+/48', line) for line in lines), sent
    for epoch in (1, 2, 3, 4):  # one short line each
        (line,) = (line for line in lines if re.match(rf'epoch {epoch}/4  \d:\d\d:\d\d', line))
        assert 'loss' in line and 'images/s' in line
    assert 'Epoch(train)' not in sent
    assert 'complete: 4 of 4 epochs, 48 steps in ' in sent
    assert 'Traceback' not in sent
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'Epoch(train)' in log


@pytest.mark.integration
def test_a_file_has_short_lines_first_numbers_and_a_summary(tmp_path):
    def run(*options: str) -> str:
        words = command(tmp_path, 'run', *options)
        with open(tmp_path / 'out.txt', 'w') as file:
            where = dict(cwd=tmp_path, env=environment(), stdout=file, stderr=subprocess.STDOUT)
            assert subprocess.run(words, **where, check=False).returncode == 0
        return (tmp_path / 'out.txt').read_bytes().decode()

    said = run()
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    for text in (said, log):
        assert '\r' not in text and '\x1b' not in text
        assert max(map(len, text.splitlines())) <= 160
        assert re.search(
            r'^20\d\d/\d\d/\d\d \d\d:\d\d:\d\d - mmengine - INFO - ', text, re.MULTILINE
        )
        assert len(re.findall(r'Epoch\(train\) +\[1\]\[10/12\]', text)) == 1
        assert len(re.findall(r'Epoch\(train\) +\[2\]\[10/12\]', text)) == 0
        assert re.search(r'complete: 4 of 4 epochs, 48 steps in \d', text)
        assert re.search(r'loss: [\d.]+ at the start, [\d.]+ at the end', text)
        assert 'next: python tools/test.py run/toy.py run/latest.pth' in text
    page = (tmp_path / 'run/index.html').read_text()
    assert '48 of 48 steps' in page and 'accuracy/top1' in page and 'CrossEntropyLoss' in page
    assert 'src="http' not in page and '<script' not in page
    again = run('--resume', 'auto')  # a finished run
    assert 'complete: 4 of 4 epochs\n' in again and 'steps in' not in again
