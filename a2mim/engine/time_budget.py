"""A training that ends at a given time: its length is decided while it runs.

The learning rate is constant until what is left of the time is what the anneal takes at the speed
of the last steps; then the length is fixed, and stated in the config, which repeats the run.
"""

import re
import time
from collections import deque
from pathlib import Path

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.checkpointing import find_saver
from a2mim.engine.loops import EpochBasedTrainLoop, all_schedules
from a2mim.engine.progress import clock
from a2mim.engine.schedulers import WarmupHoldLR
from a2mim.engine.training_state import describe
from a2mim.registry import HOOKS

OPEN = 1 << 40  # steps: longer than any run
WINDOW = 100  # steps of which the speed is taken
TOGETHER = 10  # steps from one agreement of several processes to the next
TOLERANCE = 0.02  # of the time, by which a run that became slower may end late
LEAVING = 3.0  # seconds from the last line of a log to the end of the process


@HOOKS.register_module()
class TimeBudgetHook(Hook):
    """Fit the length of a training to the clock.

    It needs ``WarmupHoldLR``, without ``end``, and a loop by epochs. Once the length is decided, it
    stands in the config of the run, in its file if this hook is named there, and in checkpoints;
    this hook is not. A run that is resumed before keeps its end; if that is past, its anneal begins
    at once. If the machine becomes slower during the anneal, the run ends ``TOLERANCE`` of the time
    late and says what is missing.

    Args:
        until: When the run is to have ended, in seconds since 1970.
    """

    priority = 'ABOVE_NORMAL'  # before the schedule steps and the checkpoint is written
    only_looks = True

    def __init__(self, until: float) -> None:
        self.until = until
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._decided = False
        self._reserve: float | None = None

    def before_train(self, runner: Runner) -> None:
        """Leave the length open.

        Raises:
            ValueError: If the run has another schedule or loop.
        """
        schedules, loop = all_schedules(runner), runner.train_loop
        if len(schedules) != 1 or not isinstance(schedules[0], WarmupHoldLR):
            raise ValueError(
                'TimeBudgetHook decides the length of a run late: set '
                "param_scheduler=dict(type='WarmupHoldLR', ..., by_epoch=False)"
            )
        if not isinstance(loop, EpochBasedTrainLoop):
            raise ValueError('TimeBudgetHook needs train_cfg with max_epochs')
        self._schedule, self._loop = schedules[0], loop
        self._schedule.end = OPEN
        self._started = time.time()

    def before_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """What came before the first step, pictures and probes, comes after the last one too."""
        if self._reserve is None:
            self._reserve = time.time() - self._started + LEAVING
            self._times.append(time.time())

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Decide the length if it is time; end a run that is late."""
        self._times.append(time.time())
        done = runner.iter + 1
        if get_world_size() > 1 and done % TOGETHER:
            return
        answer = [self._length(done)]
        broadcast_object_list(answer)
        length = answer[0]
        if length is None:
            return
        if not self._decided:
            end = max(self._schedule.length_after(done), done + 1)
            self._schedule.end = end
            runner.logger.info(
                f'length: {end} steps, decided after {done}: the learning rate falls from here on, '
                f'{clock(max(0.0, self.until - time.time()))} are left'
            )
        if length == done:
            missing = self._schedule.length - done
            runner.logger.warning(
                f'the time is over, for the steps have become slower: the run ends {missing} steps '
                f'before the end of its schedule of {self._schedule.length}'
            )
        self._fix(runner, length)
        self._decided = True

    def _length(self, done: int) -> int | None:
        """Iterations of the whole run, if they are to be fixed after ``done`` of them."""
        now, pace = self._times[-1], self._pace()
        left = self.until - now - (self._reserve or 0)
        late = left < -TOLERANCE * max(0.0, self.until - self._started)
        if self._decided:
            return done if late and done < self._loop.max_iters else None
        shortest = max(self._schedule.length_after(done), done + 1)
        if late and self._started < self.until:
            return done
        if (shortest - done) * pace >= left:
            return shortest
        # For the bar: the anneal is as long at this speed, and the time as full.
        expected = max(shortest, done + round(left / pace) if pace > 0 else shortest)
        self._loop.end_after(expected)
        return None

    def _pace(self) -> float:
        """Seconds a step, with what comes between two of them."""
        return (self._times[-1] - self._times[0]) / max(1, len(self._times) - 1)

    def _fix(self, runner: Runner, length: int) -> None:
        """End after ``length`` iterations, and say so in the config and its files."""
        self._loop.end_after(length)
        cfg = runner.cfg
        entry = cfg.param_scheduler
        (entry[0] if isinstance(entry, list) else entry).end = self._schedule.end
        cfg.train_cfg.update(max_epochs=self._loop.max_epochs, max_iters=length)
        hooks = cfg.get('custom_hooks') or []
        cfg.custom_hooks = [hook for hook in hooks if hook.get('type') != type(self).__name__]
        if is_main_process():
            if cfg.filename:
                state_length(Path(cfg.filename), self._schedule.length, length, cfg.train_cfg)
            runner.dump_config()
        saver = find_saver(runner)
        if saver is not None:
            saver.about = describe(runner)


def state_length(path: Path, end: int, length: int, train_cfg: dict) -> None:
    """Write the length of a run into the config file that leaves it to a hook.

    Args:
        path: The file; one that does not name the hook itself is left alone.
        end: Steps of the schedule.
        length: Iterations of the run.
        train_cfg: Entry of the config, with ``max_epochs``.
    """
    text = path.read_text(encoding='utf-8')
    named = re.compile(r"^ *dict\(type='TimeBudgetHook'.*\n", re.MULTILINE)
    epochs = f'max_epochs={train_cfg["max_epochs"]}, max_iters={length}'
    if named.search(text) or 'max_iters=' in text:
        text = named.sub('', text)
        text = re.sub(r'max_epochs=\d+(, max_iters=\d+)?', epochs, text, count=1)
        text = re.sub(r'(, end=\d+)?, by_epoch=False\)', f', end={end}, by_epoch=False)', text)
        path.write_text(text, encoding='utf-8')
