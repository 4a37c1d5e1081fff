"""All processes of a run start from the same checkpoint: the one that the first process found."""

from pathlib import Path

from mmengine.dist import broadcast_object_list
from mmengine.runner import Runner


def share_start(runner: Runner) -> None:
    """Give every process what the first one resumes or loads.

    Each looks for itself. A process that comes before the last checkpoint of a run that is just
    ending, or on a machine where the work dir is another folder, would find another file or none,
    and train other weights than the first one.
    """
    start = [runner._resume, whole_path(runner._load_from)]
    broadcast_object_list(start)
    runner._resume, runner._load_from = start


def whole_path(file: str | None) -> str | None:
    """``file`` as every process finds it, whatever folder it was started in; URLs stay."""
    return str(Path(file).absolute()) if file and Path(file).is_file() else file
