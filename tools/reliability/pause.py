"""A hook that holds a run at a chosen place, so that it is attacked there and nowhere else.

A file ``pause`` in the work dir names the place: the number of an iteration, or ``val``. The hook
writes ``reached.RANK`` there and waits until the file ``pause`` is gone.
"""

import time
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

FILE = 'pause'


class Pause(Hook):
    """Wait before the iteration or within the validation that the file names."""

    only_looks = True

    def before_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Wait, if this is the iteration."""
        self._wait(runner, str(runner.iter))

    def before_val_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Wait, if it is the validation."""
        self._wait(runner, 'val')

    def _wait(self, runner: Runner, place: str) -> None:
        file = Path(runner.work_dir, FILE)
        if not file.exists() or file.read_text() != place:
            return
        file.with_name(f'reached.{get_rank()}').touch()
        while file.exists():
            time.sleep(0.01)
