"""``--resume``: find the checkpoint, and continue only the experiment that wrote it."""

import re
from pathlib import Path

from mmengine import Config

from a2mim.engine.checkpointing import newest_checkpoint
from a2mim.engine.launch.names import RUNNER_KEYS
from a2mim.weights.recipe import literal_config
from a2mim.weights.safe_load import load_file

# What may differ between the parts of one run: where things are, what is shown and kept, how the
# work is spread over processors, and initial weights, which the checkpoint replaces. The batch per
# process and the accumulation belong to a number of processes: the checkpoint itself has all three.
HARMLESS = re.compile(
    r'(work_dir|resume|load_from|launcher|log_level|log_processor|experiment_name|visualizer|'
    r'env_cfg|sync_bn|model_wrapper_cfg|find_unused_parameters|compile|val_\w+|test_\w+|'
    r'train_cfg\.val_\w+|default_hooks\.(logger|checkpoint|timer|bad_images)|'
    r'model\.backbone\.init_cfg|'
    r'train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor|batch_size)|'
    r'optim_wrapper\.accumulative_counts)(\.|$)'
    r'|.*\.(root|list_file|on_bad_image|grad_checkpointing)$'
)


def find_checkpoint(resume: str, work_dir: str) -> tuple[str | None, list[str]]:
    """The file to resume from, and a line for each newer one that is not whole.

    No file if ``resume`` is ``'auto'`` and nothing was saved yet.

    Raises:
        FileNotFoundError: If a named file is missing.
        ValueError: If there are checkpoints, and no run can go on from any of them.
    """
    if resume != 'auto':
        if not Path(resume).is_file():
            raise FileNotFoundError(f'--resume {resume}: there is no such file')
        return resume, []
    newest, skipped = newest_checkpoint(Path(work_dir))
    if newest is not None:
        return str(newest), skipped
    found = sorted(path.name for path in Path(work_dir).glob('*.pth'))
    if found:
        reasons = '; '.join(skipped) or f'{", ".join(found[:3])} hold no state to go on from'
        raise ValueError(
            f'{work_dir} has no checkpoint to resume from: {reasons}. Put back a whole copy, or '
            'start anew in another --work-dir'
        )
    return None, []


def check_same_experiment(cfg: Config, checkpoint: str) -> None:
    """Compare ``cfg`` with the config that lies beside ``checkpoint``.

    Raises:
        ValueError: If an entry differs that changes the training.
    """
    files = sorted(Path(checkpoint).parent.glob('*.py'), key=lambda path: path.stat().st_mtime)
    contents = {path: literal_config(path.read_text()) for path in files}
    # A config that inherits was written by a person.
    written = [path for path, found in contents.items() if found and '_base_' not in found]
    if not written:
        return
    before = flatten(contents[written[-1]])
    # Through the same text form, so that both have the same types.
    now = flatten(literal_config(cfg.pretty_text))
    differing = [
        f'{key}: {before.get(key, "not set")!r} then, {now.get(key, "not set")!r} now'
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and key.split('.')[0] in RUNNER_KEYS
        and not HARMLESS.match(key)
        # Where none is given, one is drawn, and found again in the checkpoint.
        and not (key == 'randomness.seed' and None in (before.get(key), now.get(key)))
    ]
    if differing:
        more = f' and {len(differing) - 4} more' if len(differing) > 4 else ''
        raise ValueError(
            f'{checkpoint} was trained with another config ({"; ".join(differing[:4])}{more}); '
            f'resume with {written[-1]}, or start a new run in another --work-dir with '
            '--load-checkpoint'
        )


def adopt_seed(cfg: Config, checkpoint: str) -> None:
    """Let a run whose config has no seed go on with the one that was drawn when it started."""
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        seed = (load_file(checkpoint).get('meta') or {}).get('seed')
        cfg.randomness = {**randomness, 'seed': seed}


def flatten(node: object, prefix: str = '') -> dict[str, object]:
    """Nested dicts and lists as one dict with dotted keys."""
    if isinstance(node, dict) and node:
        items = node.items()
    elif isinstance(node, list | tuple) and node:
        items = enumerate(node)
    else:
        return {prefix[:-1]: node}
    flat = {}
    for name, item in items:
        flat |= flatten(item, f'{prefix}{name}.')
    return flat
