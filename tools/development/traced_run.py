"""Record which files of the package a training run enters, phase by phase.

``trace_run`` trains on two small images and resumes. Each run is a process of its own: this file,
called with the result file and the command. A file counts in a phase when one of its functions is
entered there; importing the module does not count. Phases begin and end at mmengine's interfaces,
so that this file needs no name of a module of ours.
"""

import inspect
import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType

import numpy as np
import timm  # noqa: F401, an import is many times slower while calls are recorded
from mmengine.runner import Runner
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/own_data/a2mim_resnet50_1xb128-cos-auto_folder-224px.py'
# One step and one checkpoint.
SMALL = (
    'model.backbone.model_name=resnet10t',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_cfg.max_epochs=1',
    'param_scheduler.warmup=0',
    'default_hooks.checkpoint.interval=1',
)
# Functions ("file:line") or files in the order in which they are entered, each with its caller.
Calls = dict[str, str | None]
PHASES = ('start', 'command', 'image', 'save', 'load')


class Recorder:
    """Trace function that records which functions of ``root/a2mim`` are entered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = f'{root / "a2mim"}{os.sep}'
        self.phases: dict[str, Calls] = {name: {} for name in PHASES}
        self.open = ['start', 'command']  # phases of the main thread
        self.open_in_threads: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Record a call; Python calls this in every thread.

        It returns nothing, so that Python traces no line of the function. A profile function would
        hear of every return and of every call in C as well, which takes several times as long.
        """
        if event != 'call' or not self._is_ours(frame):
            return
        in_main = threading.current_thread() is threading.main_thread()
        for phase in self.open if in_main else self.open_in_threads:
            calls, name = self.phases[phase], self._name(frame)
            if name not in calls:
                calls[name] = self._caller(frame, calls)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record what is entered in the block."""
        self.open.append(name)
        yield
        self.open.remove(name)

    def recorded(self, name: str, function: Callable) -> Callable:
        """``function``, each call of which is recorded as phase ``name``."""

        @wraps(function)
        def call(*args: object, **kwargs: object) -> object:
            with self.phase(name):
                return function(*args, **kwargs)

        return call

    def _is_ours(self, frame: FrameType) -> bool:
        code = frame.f_code
        # Module and class bodies are not optimized; comprehensions run at import too.
        # Whoever looks at all modules asks a lazy one for names, in no fixed order.
        lazy = code.co_name == '__getattr__'
        is_function = code.co_flags & inspect.CO_OPTIMIZED and code.co_name[0] != '<' and not lazy
        return bool(is_function) and code.co_filename.startswith(self.package)

    def _name(self, frame: FrameType) -> str:
        path = Path(frame.f_code.co_filename).relative_to(self.root).as_posix()
        return f'{path}:{frame.f_code.co_firstlineno}'

    def _caller(self, frame: FrameType, calls: Calls) -> str | None:
        caller = frame.f_back
        while caller and not (self._is_ours(caller) and self._name(caller) in calls):
            caller = caller.f_back
        return self._name(caller) if caller else None


def mark_phases(recorder: Recorder) -> None:
    """Make mmengine's runner begin and end the phases."""
    call_hooks = Runner.call_hook

    def call_hook(runner: Runner, fn_name: str, **kwargs: object) -> None:
        if fn_name == 'before_run':
            runner.load_or_resume = recorder.recorded('load', runner.load_or_resume)
        if fn_name == 'before_train':
            recorder.open.remove('start')
            (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'CheckpointHook')
            for stage in ('after_train_iter', 'after_train_epoch', 'after_train'):
                setattr(hook, stage, recorder.recorded('save', getattr(hook, stage)))
        if fn_name == 'before_train_iter':
            # From now on a thread writes checkpoints, and no other one does anything.
            recorder.open_in_threads = ['save']
        call_hooks(runner, fn_name, **kwargs)
        if fn_name == 'after_train_epoch' and 'command' in recorder.open:
            recorder.open.remove('command')
        if fn_name == 'after_train':
            with recorder.phase('image'):
                compute_loss(runner)

    Runner.call_hook = call_hook


def compute_loss(runner: Runner) -> None:
    """Read a batch and compute its loss, as the training loop does."""
    loader = runner.train_dataloader
    batch = loader.collate_fn([loader.dataset[index] for index in range(loader.batch_size)])
    runner.model(**runner.model.data_preprocessor(batch, training=True), mode='loss')


def main(result: str, script: str, *arguments: str) -> None:
    """Run ``script`` and write the calls of each phase to ``result``."""
    recorder = Recorder(ROOT)
    mark_phases(recorder)
    sys.argv = [script, *arguments]
    threading.settrace(recorder)
    sys.settrace(recorder)
    runpy.run_path(script, run_name='__main__')
    sys.settrace(None)
    Path(result).write_text(json.dumps(recorder.phases))


def keep(calls: Calls, names: Set[str]) -> Calls:
    """Only the entries in ``names``, each with its nearest caller among them."""

    def caller(name: str) -> str | None:
        by = calls[name]
        return by if by is None or by in names else caller(by)

    return {name: caller(name) for name in calls if name in names}


def by_file(functions: Calls) -> Calls:
    """The files of ``functions``, each with the file that called it first."""
    files: Calls = {}
    for name, by in functions.items():
        files.setdefault(name.rpartition(':')[0], by and by.rpartition(':')[0])
    return files


def trace_run(folder: Path) -> dict[str, Calls]:
    """Train and resume in ``folder``; return the files of each phase.

    Returns:
        ``command``: from the command to the end of the first step, which saves a checkpoint.
        ``image``: from an image file to the loss.
        ``save``: while the checkpoint hook saves, in its thread too.
        ``load``: while the runner loads, and what only a run with ``--resume`` enters before.
    """
    (folder / 'images').mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'images/{index}.jpg')

    def run(name: str, *options: str) -> dict[str, Calls]:
        places = ['--data-root', str(folder / 'images'), '--work-dir', str(folder / 'run')]
        program = [sys.executable, __file__, str(folder / name), 'tools/train.py', CONFIG]
        command = [*program, *places, '--auto-scale-lr', *options, '--cfg-options', *SMALL]
        environment = os.environ | {'PYTHONPATH': str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'{" ".join(command)} failed:\n{done.stdout}{done.stderr}')
        return json.loads((folder / name).read_text())

    phases = run('trained.json')
    resumed = run('resumed.json', '--resume')
    before = resumed['start'].keys() - resumed['load'].keys() - phases.pop('start').keys()
    phases['load'] = keep(resumed['start'], before) | resumed['load']
    return {name: by_file(functions) for name, functions in phases.items()}


if __name__ == '__main__':
    main(*sys.argv[1:])
