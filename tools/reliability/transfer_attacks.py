"""Attacks on detection and segmentation, where MMDetection and MMSegmentation are installed."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from forked_runs import NotRunError, Program, Run, check_stopped, data_workers, expect
from kill_and_resume import HERE

sys.path.append(str(HERE.parents[1] / 'tests'))
import shrunk_detector
import shrunk_segmentor
from a2mim.transfer.train import main

NEEDS = {'detection': 'mmdet', 'segmentation': 'mmseg'}
PLACE = 2  # of some iterations


class TransferRun(Run):
    """A training of ``python -m a2mim.transfer.train``; ``data`` is a folder of shapes."""

    data: Path

    def command_line(self, workers: int, options: Sequence[str]) -> list[str]:
        """The arguments of the program."""
        if self.kind == 'detection':
            config = shrunk_detector.CONFIGS / 'mask-rcnn_r50_fpn_ms-1x_coco.py'
            shrunk = shrunk_detector.options(config, self.data, 64)
        else:
            config = shrunk_segmentor.CONFIGS / 'upernet_r50_4xb4-160k_ade20k-512x512.py'
            shrunk = shrunk_segmentor.options(config, self.data, 64)
            shrunk.append('default_hooks.checkpoint.interval=100')
        settings = [f'train_dataloader.num_workers={workers}', 'train_dataloader.timeout=60']
        settings += [f'val_{part}=None' for part in ('evaluator', 'dataloader', 'cfg')]
        return [str(config), 'none', *shrunk, *settings, *options, *self.rest()]

    def rest(self) -> list[str]:
        """Folder, and whether there is something to resume."""
        return ['--work-dir', str(self.folder), '--resume']

    def program(self) -> Program:
        """``main`` of the program that trains."""
        return main


def attack(root: Path, folder: Path, kind: str, victim: str) -> None:
    """SIGTERM to all processes, or a data worker that the kernel kills."""
    if importlib.util.find_spec(NEEDS[kind]) is None:
        raise NotRunError(f'{NEEDS[kind]} is not installed')
    TransferRun.data = data = root / f'shapes_of_{kind}'
    module = shrunk_detector if kind == 'detection' else shrunk_segmentor
    if not data.exists():
        module.write_shapes(data, images=10, val=2, size=64)
    run = TransferRun(kind, folder, workers=1, pause=PLACE)
    run.wait_for_pause()
    if victim == 'group':
        run.signal(signal.SIGTERM)
    else:
        os.kill(data_workers(run.pid)[0], signal.SIGKILL)
    run.go_on()
    check_stopped(run, at_least=PLACE)
    resumed = TransferRun(kind, folder)
    code = resumed.finish()
    expect(code == 0, f'resumed: exit code {code}: {resumed.last_line()}')


def cases() -> list[tuple[str, Callable[[Path, Path], None]]]:
    """Name and function of each attack; a function gets the root folder and one of its own."""
    words = {'group': 'SIGTERM to the group, 1 worker', 'worker': 'a data worker killed'}
    return [
        (f'{kind}: {text}', partial(attack, kind=kind, victim=victim))
        for kind in NEEDS
        for victim, text in words.items()
    ]
