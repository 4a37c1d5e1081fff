"""The checks of the doctor: packages, machine, and two steps of training.

Every check returns findings. Nothing is imported before its own check, so that a broken package is
a finding and not a traceback. Versions, compilers and GPUs are those of mmengine's ``collect_env``.
"""

import importlib
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

# Module names that differ from the distribution's.
MODULES = {
    'onedl-mmengine': 'mmengine',
    'onedl-mmcv': 'mmcv',
    'opencv-python': 'cv2',
    'pillow': 'PIL',
    'scikit-image': 'skimage',
    'scikit-learn': 'sklearn',
    'pyyaml': 'yaml',
}
# Install the same files as the onedl packages, and overwrite them without a warning.
UPSTREAM = ('mmengine', 'mmengine-lite', 'mmcv', 'mmcv-lite', 'mmdet', 'mmsegmentation')
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
# Remedy by a part of an import error's message.
REMEDIES = {
    'libGL': 'apt-get install libgl1 (OpenCV needs it for its windows)',
    'libgthread': 'apt-get install libglib2.0-0 (OpenCV needs it for its windows)',
    'torchvision::nms': 'torchvision was built for another torch: pip install -U torch torchvision',
}
EXTRAS = {
    'export': 'files for ONNX and HuggingFace, read back in them',
    'shards': 'images from tar shards and LMDB',
    'analysis': 'class activation maps, and UMAP in addition to t-SNE',
    'seg': 'segmentation with MMSegmentation',
    'det': 'detection with MMDetection',
    'test': 'the test suite',
}
PYTHON = ((3, 10), (3, 14))  # first supported version, first unsupported one
SHARED_MEMORY = '/dev/shm'
GIB = 2**30
# Of collect_env: without information about the machine, or too long for a table.
SKIPPED = ('numpy_random_seed', 'MUSA available', 'PyTorch compiling details')
MODEL = dict(
    type='A2MIM',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    backbone=dict(type='TimmBackbone', model_name='test_resnet', mask_after='layer3'),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead', spatial=dict(type='L1Loss'), spectral=dict(type='FocalFrequencyLoss')
    ),
)


class Verdict(str, Enum):
    """Result of a check."""

    OK = 'ok'
    MISSING = 'missing'
    PROBLEM = 'problem'


@dataclass(frozen=True)
class Finding:
    """One line of the report: heading, name, value, result, remedy, whether training needs it."""

    part: str
    name: str
    found: str
    verdict: Verdict = Verdict.OK
    remedy: str = ''
    needed: bool = False

    @property
    def stops(self) -> bool:
        """Whether training cannot work."""
        return self.needed and self.verdict is not Verdict.OK


def check_python() -> Finding:
    """The version of Python."""
    good = PYTHON[0] <= sys.version_info[:2] < PYTHON[1]
    verdict, remedy = (Verdict.OK, '') if good else (Verdict.PROBLEM, 'use Python 3.10 to 3.13')
    return Finding('core', 'Python', platform.python_version(), verdict, remedy, needed=True)


def check_core() -> list[Finding]:
    """This package and its requirements: versions, and whether they import."""
    own = installed('a2mim')
    if own is None:
        found, remedy = 'not installed', 'pip install -e . in the folder of a2mim'
        return [Finding('core', 'a2mim', found, Verdict.PROBLEM, remedy, needed=True)]
    packages = [check_package(requirement) for requirement in requirements()]
    return [Finding('core', 'a2mim', own, needed=True), *packages]


def requirements(extra: str = '') -> list[Requirement]:
    """Requirements of this package, or of one of its extras; empty if it is not installed."""
    if installed('a2mim') is None:
        return []
    parsed = [Requirement(line) for line in metadata.requires('a2mim') or []]
    return [
        requirement
        for requirement in parsed
        if ('extra' in str(requirement.marker)) == bool(extra)
        and (requirement.marker is None or requirement.marker.evaluate({'extra': extra}))
    ]


def check_package(requirement: Requirement) -> Finding:
    """One requirement: installed, in the right version, and importable."""
    name, command = requirement.name, f"pip install '{requirement.name}{requirement.specifier}'"
    version = installed(name)
    if version is None:
        return Finding('core', name, 'not installed', Verdict.MISSING, command, needed=True)
    if not requirement.specifier.contains(version, prereleases=True):
        found = f'{version}, but {requirement.specifier} is needed'
        return Finding('core', name, found, Verdict.PROBLEM, command, needed=True)
    try:
        importlib.import_module(MODULES.get(name, name.replace('-', '_')))
    except Exception as error:  # broken packages raise any type
        text = f'{type(error).__name__}: {error}'
        remedy = next((REMEDIES[part] for part in REMEDIES if part in text), command)
        found = f'{version} does not import: {text.splitlines()[0]}'
        return Finding('core', name, found, Verdict.PROBLEM, remedy, needed=True)
    return Finding('core', name, version, needed=True)


def installed(name: str) -> str | None:
    """Version of a distribution; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_mixtures() -> Iterator[Finding]:
    """Packages that overwrite each other's files."""
    upstream = [name for name in UPSTREAM if installed(name)]
    if upstream:
        found = f'{", ".join(upstream)} next to onedl-mmengine, in the same folders'
        remedy = (
            f'pip uninstall {" ".join(upstream)}; pip install --force-reinstall --no-deps '
            'onedl-mmengine onedl-mmcv, best in a new environment'
        )
        yield Finding('core', 'OpenMMLab', found, Verdict.PROBLEM, remedy, needed=True)
    versions = {name: installed(name) for name in OPENCV if installed(name)}
    if len({*versions.values()}) > 1:
        found = ', '.join(f'{name} {version}' for name, version in versions.items())
        remedy = 'pip uninstall all of them, and install one'
        yield Finding('core', 'OpenCV', f'{found}, in one folder', Verdict.PROBLEM, remedy)


def check_operators() -> Finding:
    """Source of the operators of detectors; nothing is loaded."""
    name, remedy = 'operators of mmcv', 'compile mmcv; only detectors need it'
    if find_spec('mmcv') is not None and find_spec('mmcv._ext') is not None:
        return Finding('extras', name, 'compiled')
    if find_spec('a2mim.transfer') is not None:
        return Finding('extras', name, "NMS and RoIAlign are torchvision's")
    return Finding('extras', name, 'not compiled', Verdict.MISSING, remedy)


def check_extra(extra: str) -> Finding:
    """The packages of one extra, which are not imported."""
    versions = {requirement: installed(requirement.name) for requirement in requirements(extra)}
    command = f"pip install -e '.[{extra}]' in the folder of a2mim"
    missing = [one.name for one, version in versions.items() if version is None]
    wrong = [
        f'{one.name} {version} instead of {one.specifier}'
        for one, version in versions.items()
        if version is not None and not one.specifier.contains(version, prereleases=True)
    ]
    name = f'[{extra}] {EXTRAS[extra]}'
    if not versions:
        return Finding('extras', name, 'not part of this installation', Verdict.MISSING, command)
    if missing:
        found = f'without {", ".join(missing)}'
        return Finding('extras', name, found, Verdict.MISSING, command)
    if wrong:
        return Finding('extras', name, '; '.join(wrong), Verdict.PROBLEM, command)
    found = ', '.join(f'{one.name} {version}' for one, version in versions.items())
    return Finding('extras', name, found)


def check_shared_memory() -> Finding:
    """Room for the batches of data workers; containers often have 64 MB."""
    if not os.path.isdir(SHARED_MEMORY):
        return Finding('machine', 'shared memory', f'no {SHARED_MEMORY} on this system')
    total = shutil.disk_usage(SHARED_MEMORY).total
    found = f'{total / GIB:.2f} GiB in {SHARED_MEMORY}'
    if total < GIB:
        remedy = 'docker run --shm-size=16g, or few data workers; a run says what it needs'
        return Finding('machine', 'shared memory', found, Verdict.PROBLEM, remedy)
    return Finding('machine', 'shared memory', found)


def check_environment() -> Iterator[Finding]:
    """Versions, compilers and GPUs, and whether torch finds the GPUs that the driver has."""
    import torch
    from mmengine.utils.dl_utils import collect_env

    for name, value in collect_env().items():
        if name not in SKIPPED:
            yield Finding('machine', name, str(value))
    built = torch.version.cuda
    if built and not torch.cuda.is_available() and Path('/dev/nvidiactl').exists():
        found = f'torch {torch.__version__} was built for CUDA {built} and finds no GPU'
        remedy = 'the driver is too old for that CUDA, or CUDA_VISIBLE_DEVICES hides the GPUs'
        yield Finding('machine', 'CUDA', found, Verdict.PROBLEM, remedy)


def check_training() -> Iterator[Finding]:
    """Train on the CPU and, if there is one, on the first GPU."""
    import torch

    for device in ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]:
        started = time.perf_counter()
        try:
            losses = train_two_steps(device)
        except Exception as error:  # any failure is a finding
            if os.environ.get('A2MIM_TRACEBACK', '0') not in ('', '0'):
                raise
            found = f'{type(error).__name__}: {error}'.splitlines()[0]
            remedy = 'see the lines above; A2MIM_TRACEBACK=1 python -m a2mim.doctor shows where'
            yield Finding('training', device, found, Verdict.PROBLEM, remedy, needed=True)
            continue
        seconds = time.perf_counter() - started
        found = f'two steps in {seconds:.1f} s, loss {losses[0]:.3f} and {losses[1]:.3f}'
        verdict = Verdict.OK if all(map(math.isfinite, losses)) else Verdict.PROBLEM
        yield Finding('training', device, found, verdict, needed=True)


def train_two_steps(device: str) -> list[float]:
    """Losses of two steps of A2MIM on random images, the same on every device."""
    import torch
    from mmengine.registry import DefaultScope

    from a2mim.registry import MODELS, OPTIM_WRAPPERS

    with DefaultScope.overwrite_default_scope('a2mim'), torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(MODEL).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        wrapper = OPTIM_WRAPPERS.build(dict(type='OptimWrapper', optimizer=optimizer))
        image = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
        mask = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8).expand(4, 2, 2)
        model.train()
        return [
            float(model.train_step(dict(image=image, mask=mask), wrapper)['loss'].detach())
            for _ in range(2)
        ]
