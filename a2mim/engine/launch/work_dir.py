"""The folder of a run: where it is, and that it does not hold another run already."""

from pathlib import Path


def default_work_dir(config: str) -> str:
    """``configs/a/b.py`` trains in ``work_dirs/a/b``, any other ``b.py`` in ``work_dirs/b``."""
    path = Path(config).with_suffix('')
    parts = list(path.parts)
    if 'configs' not in parts:
        return str(Path('work_dirs') / path.name)
    last = len(parts) - 1 - parts[::-1].index('configs')
    parts[last] = 'work_dirs'
    return str(Path(*parts))


def refuse_used_work_dir(work_dir: str) -> None:
    """Keep a new run out of a folder that holds the checkpoints of another.

    Raises:
        ValueError: If there are checkpoints in ``work_dir``.
    """
    checkpoints = sorted(path.name for path in Path(work_dir).glob('*.pth'))
    if checkpoints:
        raise ValueError(
            f'{work_dir} holds the checkpoints of a run ({", ".join(checkpoints[:3])}); continue '
            'it with --resume auto, or give the new run another --work-dir'
        )
