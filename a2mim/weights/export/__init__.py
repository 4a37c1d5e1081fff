"""Export a trained backbone to other libraries; each file is read back there first."""

import os
import shutil
import tempfile
from pathlib import Path

from torch import Tensor

from a2mim.weights.export.detectron2 import Detectron2Pickle
from a2mim.weights.export.onnx import OnnxGraph
from a2mim.weights.export.openmmlab import OpenMMLabFile
from a2mim.weights.export.target import Check, Source, Target
from a2mim.weights.export.timm import HuggingFaceFolder, TimmFile
from a2mim.weights.export.torchvision import TorchvisionFile

__all__ = ['TARGETS', 'check_path', 'export']

TARGETS: dict[str, Target] = {
    'timm': TimmFile(),
    'torchvision': TorchvisionFile(),
    'huggingface': HuggingFaceFolder(),
    'mmdet': OpenMMLabFile('mmdet'),
    'mmseg': OpenMMLabFile('mmseg'),
    'mmpretrain': OpenMMLabFile('mmpretrain'),
    'detectron2': Detectron2Pickle(),
    'onnx': OnnxGraph(),
}


def check_path(target: str, path: Path, force: bool) -> None:
    """Refuse a path before any work is done.

    Raises:
        ValueError: If the target is unknown or its files have another suffix.
        FileExistsError: If something is there, unless ``force``.
    """
    if target not in TARGETS:
        raise ValueError(f'no target {target!r}; there are {", ".join(TARGETS)}')
    suffixes = TARGETS[target].suffixes
    if path.suffix not in suffixes and '' not in suffixes:
        raise ValueError(f'{path} must end in {" or ".join(suffixes)} for {target}')
    if path.suffix in ('.pth', '.pt', '.safetensors', '.pkl', '.onnx') and '' in suffixes:
        raise ValueError(f'{path} must be a folder for {target}, without a suffix')
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists; choose another name or add --force')


def export(source: Source, target: str, path: Path, image: Tensor) -> Check:
    """Write ``source`` for ``target``, read it back there, compare, and only then name it ``path``.

    Args:
        source: The trained model.
        target: Key of ``TARGETS``.
        path: Replaced if it is there.
        image: (B, C, H, W), normalised.

    Raises:
        ValueError: If the target has no such model, or reads less or something else.
    """
    problem, carried = TARGETS[target].problem(source), TARGETS[target].carried
    if problem:
        fitting = [name for name, other in TARGETS.items() if not other.problem(source)]
        raise ValueError(f'{target}: {problem}; targets that fit: {", ".join(fitting)}')
    if carried is not None and (silent := source.silent_options(carried)):
        without = ' '.join(f'{option.partition("=")[0]}=None' for option in silent)
        raise ValueError(
            f'{target} has no {", ".join(silent)}, which changes the features and no weight; add '
            f'--model-options {without} to export the weights for a network without it'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as folder:
        unfinished = Path(folder) / path.name
        TARGETS[target].write(source, unfinished)
        try:
            check = TARGETS[target].read_back(source, unfinished, image)
        except RuntimeError as error:  # of load_state_dict
            raise ValueError(f'{target} does not load what was written: {error}') from error
        check.verify()
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(unfinished, path)
    return check
