"""The newest checkpoint of a folder that is whole, and why others were passed over."""

from pathlib import Path

from a2mim.weights.safe_load import check_members, peek

# What a run needs to go on. Files of weights, such as exported ones, lack some of it.
NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The whole file with the most iterations in it, and a line for each one passed over.

    The order is that of the iterations that the files hold: times change when a folder is copied.
    Names that begin with ``best_`` and links, ``latest.pth`` among them, are no candidates.
    """
    skipped, iterations = [], {}
    for path in sorted(folder.glob('*.pth')):
        if path.is_symlink() or path.name.startswith('best_'):
            continue
        try:
            iterations[path] = iteration_of(path)
        except (ValueError, OSError) as error:
            skipped.append(f'skipped {path}: {error}')
    for path in sorted(iterations, key=iterations.get, reverse=True):
        try:
            check_members(path)
        except ValueError as error:
            skipped.append(f'skipped {path}: {error}')
            continue
        return path, skipped
    return None, skipped


def iteration_of(path: Path) -> int:
    """Iterations done when ``path`` was written.

    Raises:
        ValueError: If no run can go on from it; the message is the reason.
    """
    content = peek(path)
    absent = [entry for entry in NEEDED if content.get(entry) is None]
    if absent:
        raise ValueError(f'it has no {", ".join(absent)}')
    iteration = content['meta'].get('iter')
    if not isinstance(iteration, int):
        raise ValueError(f'its iteration is {iteration!r}')
    return iteration
