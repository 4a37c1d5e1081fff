"""Checkpoints: complete or not there, the newest one under one name, and only for its own model."""

import os
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from a2mim.checkpoint import compare
from a2mim.registry import HOOKS

LATEST = 'latest.pth'
# A new run may start from a checkpoint with another head, but not with another trunk.
MIN_MATCH = 0.9


@register_backend('atomic', force=True)
class AtomicBackend(LocalBackend):
    """Local files that appear under their name only once they are complete."""

    def put(self, obj: bytes, filepath: str) -> None:
        """Write beside ``filepath``, flush to the disk and rename."""
        partial = f'{filepath}.partial'
        super().put(obj, partial)
        with open(partial, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(partial, filepath)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's ``CheckpointHook``, safe against a kill, with ``latest.pth`` beside the files.

    ``latest.pth`` is a relative link to the newest complete checkpoint. An outdated checkpoint
    goes after its successor is complete, where mmengine's hook removes it before.

    Args:
        **kwargs: Arguments of mmengine's hook.

    Raises:
        TypeError: If an argument is unknown to mmengine's hook, which would ignore it until the
            first checkpoint is due.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**{'backend_args': dict(backend='atomic'), **kwargs})
        if self.args:
            raise TypeError(f'CheckpointHook has no argument {", ".join(map(repr, self.args))}')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse the checkpoint of another model, which mmengine would load in part.

        Raises:
            ValueError: If too few tensors match by name and shape: in a resumed run and in a test
                all have to. Also if there are only weights to resume from.
        """
        absent = {'meta', 'message_hub', 'optimizer'} - checkpoint.keys()
        if runner._resume and absent:
            raise ValueError(
                f'{runner._load_from} has no {", ".join(sorted(absent))}: a run cannot be resumed '
                'from it, only started, with --load-checkpoint'
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        report = compare(model, checkpoint.get('state_dict', checkpoint))
        starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        needed = MIN_MATCH if starts else 1.0
        if report.rate < needed:
            raise ValueError(
                f'{runner._load_from} does not fit {type(model).__name__}: {report}; at least '
                f'{needed:.0%} must match. Does it belong to another config?'
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = self._register_step(runner, step)
        super()._save_checkpoint_with_step(runner, step, meta)
        if not is_main_process():
            return
        replace_link(Path(self.out_dir, LATEST), self.filename_tmpl.format(step))
        for old in outdated:
            Path(self.out_dir, self.filename_tmpl.format(old)).unlink(missing_ok=True)

    def _register_step(self, runner: Runner, step: int) -> list[int]:
        """Note ``step`` as kept before mmengine does, which then has nothing to remove.

        Returns:
            Steps whose files have had their time.
        """
        if self.max_keep_ckpts < 1 or step in self.keep_ckpt_ids:
            return []
        kept = [*self.keep_ckpt_ids, step]
        self.keep_ckpt_ids.append(step)  # a deque of limited length: drops the oldest one itself
        runner.message_hub.update_info('keep_ckpt_ids', [*self.keep_ckpt_ids])
        return kept[: -len(self.keep_ckpt_ids)]


def replace_link(link: Path, target: str) -> None:
    """Let ``link`` name ``target``, a file beside it, without a moment in which it is missing."""
    fresh = link.with_suffix('.partial')
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    os.replace(fresh, link)
