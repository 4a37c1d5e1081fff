"""Several sets of images to validate or test on, one after the other.

    val_dataloader = [dict(...), dict(name='sketch', ...)]
    val_evaluator = dict(type='Accuracy')    # of every set

``name_sets`` turns the list into what mmengine knows: one loader, and a loop for the others. The
first set keeps the names of its metrics, which ``save_best`` reads; those of another start with its
name: ``sketch/accuracy/top1``.
"""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine import Config
from mmengine.runner import Runner, TestLoop, ValLoop

from a2mim.registry import LOOPS


def name_sets(cfg: Config) -> None:
    """Replace a list of loaders in ``val_dataloader`` by its first one and a ``MultiValLoop``.

    The others go to ``val_cfg``, named as they say, or val2, val3 and so on. The same for test.

    Raises:
        ValueError: If the list is empty or a name occurs twice.
        TypeError: If one of the loaders is no dict.
    """
    for split, loop in (('val', 'MultiValLoop'), ('test', 'MultiTestLoop')):
        loaders = cfg.get(f'{split}_dataloader')
        if not isinstance(loaders, list | tuple):
            continue
        if not loaders or not all(isinstance(loader, dict) for loader in loaders):
            raise TypeError(
                f'{split}_dataloader={loaders!r}: give a dict, or a list of dicts with one for '
                'each set of images'
            )
        names = [loader.pop('name', f'{split}{n}') for n, loader in enumerate(loaders, 1)]
        if len({*names}) < len(names):
            raise ValueError(f'{split}_dataloader has the names {names}; give each another name')
        cfg[f'{split}_dataloader'] = loaders[0]
        if len(loaders) == 1:
            continue
        others = [
            dict(name=name, dataloader=loader, evaluator=copy.deepcopy(cfg[f'{split}_evaluator']))
            for name, loader in zip(names[1:], loaders[1:], strict=True)
        ]
        cfg[f'{split}_cfg'] = {**(cfg.get(f'{split}_cfg') or {}), 'type': loop, 'others': others}


def test_every_set(cfg: Config, source: str) -> None:
    """Let ``test_cfg`` test on the sets that ``source``, 'val' or 'test', is measured on."""
    others = (cfg.get(f'{source}_cfg') or {}).get('others')
    cfg.test_cfg = cfg.get('test_cfg') or {}
    if others:
        cfg.test_cfg = {**cfg.test_cfg, 'type': 'MultiTestLoop', 'others': others}


def other_loaders(cfg: Config) -> list[dict]:
    """The configs of the loaders of all sets after the first ones."""
    loops = [cfg.get('val_cfg') or {}, cfg.get('test_cfg') or {}]
    return [one['dataloader'] for loop in loops for one in loop.get('others', ())]


class SeveralSets:
    """The part that both loops share: the sets, each a loop of its own, and how they are run."""

    kind: type[ValLoop | TestLoop]
    mode: str
    runner: Runner
    dataloader: Any
    evaluator: Any
    run_iter: Any

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        evaluator: dict | list,
        others: Sequence[dict] = (),
        fp16: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)  # pyright: ignore[reportCallIssue]
        self.others = {
            one['name']: self.kind(runner, one['dataloader'], one['evaluator'], fp16)
            for one in others
        }

    def run(self) -> dict[str, float]:
        """Measure every set within one epoch of the hooks; return all metrics."""
        call = self.runner.call_hook
        call(f'before_{self.mode}')
        call(f'before_{self.mode}_epoch')
        self.runner.model.eval()
        metrics, first = {}, (self.dataloader, self.evaluator)
        sets = {name: (loop.dataloader, loop.evaluator) for name, loop in self.others.items()}
        # The progress line reads the length of ``dataloader``.
        for name, (self.dataloader, self.evaluator) in {'': first, **sets}.items():
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
            found = self.evaluator.evaluate(len(self.dataloader.dataset))
            metrics |= {f'{name}/{key}' if name else key: value for key, value in found.items()}
        self.dataloader, self.evaluator = first
        call(f'after_{self.mode}_epoch', metrics=metrics)
        call(f'after_{self.mode}')
        return metrics


@LOOPS.register_module()
class MultiValLoop(SeveralSets, ValLoop):
    """Validation on several sets.

    Args:
        runner: Of the training.
        dataloader: Config of the first set.
        evaluator: Config of its metrics.
        others: Name, dataloader and evaluator of each other set.
        fp16: Autocast.
    """

    kind, mode = ValLoop, 'val'


@LOOPS.register_module()
class MultiTestLoop(SeveralSets, TestLoop):
    """Test on several sets; the arguments are those of ``MultiValLoop``."""

    kind, mode = TestLoop, 'test'
