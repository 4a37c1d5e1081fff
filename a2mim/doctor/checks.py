"""Packages: those that the core needs, those that do not go together, and those behind extras."""

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


class Verdict(str, Enum):
    """What a finding means."""

    OK = 'ok'
    MISSING = 'missing'  # of something optional, or of a package that is needed
    PROBLEM = 'problem'


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do about it.

    Args:
        part: Heading that the finding belongs to.
        name: What was looked at.
        found: What is there.
        verdict: What that means.
        remedy: What to do; empty where all is well.
        needed: Whether training needs it.
    """

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


# Distributions under other names than their modules, as far as importing them can fail.
MODULES = {
    'onedl-mmengine': 'mmengine',
    'onedl-mmcv': 'mmcv',
    'opencv-python': 'cv2',
    'pillow': 'PIL',
    'scikit-image': 'skimage',
    'scikit-learn': 'sklearn',
    'pyyaml': 'yaml',
}
# Own the same files as the line that this package needs, and replace them without a word.
UPSTREAM = ('mmengine', 'mmengine-lite', 'mmcv', 'mmcv-lite', 'mmdet', 'mmsegmentation')
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
# What an error of an import means, by a part of its message.
REMEDIES = {
    'libGL': 'apt-get install libgl1 (OpenCV needs it for its windows)',
    'libgthread': 'apt-get install libglib2.0-0 (OpenCV needs it for its windows)',
    'torchvision::nms': 'torchvision was built for another torch: pip install -U torch torchvision',
}
EXTRAS = {
    'export': 'files for ONNX and HuggingFace, read back in them',
    'shards': 'images from tar shards and LMDB',
    'analysis': 'class activation maps, and UMAP beside t-SNE',
    'seg': 'segmentation with MMSegmentation',
    'det': 'detection with MMDetection',
    'test': 'the test suite',
}


def check_core() -> list[Finding]:
    """This package, and everything that it needs: versions, and whether it imports."""
    own = installed('a2mim')
    if own is None:
        remedy = 'pip install -e . in the folder of a2mim'
        found = 'not installed: what it needs is not known'
        return [Finding('core', 'a2mim', found, Verdict.PROBLEM, remedy, needed=True)]
    packages = [check_package(requirement) for requirement in requirements()]
    return [Finding('core', 'a2mim', own, needed=True), *packages]


def requirements(extra: str = '') -> list[Requirement]:
    """What this package needs, or what one of its extras adds; empty if it is not installed."""
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
    """One package of the core: there, of a version that works, and importable."""
    name, command = requirement.name, f"pip install '{requirement.name}{requirement.specifier}'"
    version = installed(name)
    if version is None:
        return Finding('core', name, 'not installed', Verdict.MISSING, command, needed=True)
    if not requirement.specifier.contains(version, prereleases=True):
        found = f'{version}, but {requirement.specifier} is needed'
        return Finding('core', name, found, Verdict.PROBLEM, command, needed=True)
    try:
        importlib.import_module(MODULES.get(name, name.replace('-', '_')))
    # A library that does not load raises what it likes.
    except Exception as error:
        text = f'{type(error).__name__}: {error}'
        remedy = next((REMEDIES[part] for part in REMEDIES if part in text), command)
        found = f'{version} does not import: {text.splitlines()[0]}'
        return Finding('core', name, found, Verdict.PROBLEM, remedy, needed=True)
    return Finding('core', name, version, needed=True)


def installed(name: str) -> str | None:
    """Version of a distribution; None if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_mixtures() -> Iterator[Finding]:
    """Packages that overwrite each other's files."""
    upstream = [name for name in UPSTREAM if installed(name)]
    if upstream:
        yield Finding(
            'core',
            'OpenMMLab',
            f'{", ".join(upstream)} beside onedl-mmengine, in the same folders',
            Verdict.PROBLEM,
            f'pip uninstall {" ".join(upstream)}; pip install --force-reinstall --no-deps '
            'onedl-mmengine onedl-mmcv, best in a new environment',
            needed=True,
        )
    versions = {name: installed(name) for name in OPENCV if installed(name)}
    if len({*versions.values()}) > 1:
        found = ', '.join(f'{name} {version}' for name, version in versions.items())
        remedy = 'pip uninstall all of them, and install one'
        yield Finding('core', 'OpenCV', f'{found}, in one folder', Verdict.PROBLEM, remedy)


def check_operators() -> Finding:
    """Where the operators of detectors would come from; nothing is loaded."""
    name, remedy = 'operators of mmcv', 'compile mmcv; only detectors need it'
    if find_spec('mmcv') is not None and find_spec('mmcv._ext') is not None:
        return Finding('extras', name, 'compiled')
    if find_spec('a2mim.transfer') is not None:
        return Finding('extras', name, "stand-in: NMS and RoIAlign are torchvision's")
    return Finding('extras', name, 'neither compiled nor a stand-in', Verdict.MISSING, remedy)


def check_extras() -> list[Finding]:
    """Which optional parts are there; they are looked up, and not imported."""
    return [check_extra(extra, purpose) for extra, purpose in EXTRAS.items()]


def check_extra(extra: str, purpose: str) -> Finding:
    """One optional part."""
    needed = requirements(extra)
    command = f"pip install -e '.[{extra}]' in the folder of a2mim"
    missing = [r.name for r in needed if installed(r.name) is None]
    other = [
        f'{r.name} {installed(r.name)} instead of {r.specifier}'
        for r in needed
        if r.name not in missing and not r.specifier.contains(installed(r.name), prereleases=True)
    ]
    name = f'[{extra}] {purpose}'
    if not needed:
        return Finding('extras', name, 'not part of this installation', Verdict.MISSING, command)
    if missing:
        found = f'without {", ".join(missing)}'
        return Finding('extras', name, found, Verdict.MISSING, command)
    if other:
        return Finding('extras', name, '; '.join(other), Verdict.PROBLEM, command)
    return Finding('extras', name, ', '.join(f'{r.name} {installed(r.name)}' for r in needed))


PYTHON = ((3, 10), (3, 14))  # the first version that works, and the first that does not
SHARED_MEMORY = '/dev/shm'
GIB = 2**30


def check_machine() -> Iterator[Finding]:
    """Everything but the GPUs."""
    first, end = PYTHON
    found = f'{platform.python_version()} on {platform.system()} {platform.machine()}'
    if first <= sys.version_info[:2] < end:
        yield Finding('machine', 'Python', found, needed=True)
    else:
        remedy = 'use Python 3.10 to 3.13'
        yield Finding('machine', 'Python', found, Verdict.PROBLEM, remedy, needed=True)
    yield check_cores()
    yield check_shared_memory()
    free = shutil.disk_usage('.').free
    found = f'{free / GIB:.1f} GiB free in {Path.cwd()}'
    if free < GIB:
        remedy = 'make room, or train with --work-dir elsewhere'
        yield Finding('machine', 'disk', found, Verdict.PROBLEM, remedy)
    else:
        yield Finding('machine', 'disk', found)


def check_cores() -> Finding:
    """Cores that this process may use, and the threads that it was told to use."""
    fixed = hasattr(os, 'sched_getaffinity')
    cores = len(os.sched_getaffinity(0)) if fixed else os.cpu_count()
    threads = os.environ.get('OMP_NUM_THREADS', 'not set')
    return Finding('machine', 'processor', f'{cores} cores, OMP_NUM_THREADS {threads}')


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


def check_gpus() -> Iterator[Finding]:
    """CUDA as torch sees it; a machine without a GPU trains on the processor."""
    import torch

    built = torch.version.cuda
    if not torch.cuda.is_available():
        if built and Path('/dev/nvidiactl').exists():
            found = f'torch {torch.__version__} was built for CUDA {built} and finds no GPU'
            remedy = 'the driver is too old for that CUDA, or CUDA_VISIBLE_DEVICES hides the GPUs'
            yield Finding('GPU', 'CUDA', found, Verdict.PROBLEM, remedy)
        else:
            yield Finding('GPU', 'CUDA', 'no GPU: training runs on the processor', Verdict.MISSING)
        return
    driver = torch._C._cuda_getDriverVersion()
    nccl = '.'.join(map(str, torch.cuda.nccl.version()))
    found = (
        f'CUDA {built}, driver up to {driver // 1000}.{driver % 1000 // 10}, '
        f'cuDNN {torch.backends.cudnn.version()}, NCCL {nccl}'
    )
    yield Finding('GPU', 'CUDA', found)
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            half = 'bfloat16' if torch.cuda.is_bf16_supported(False) else 'no bfloat16'
        found = f'{device.name}, {device.total_memory / GIB:.0f} GiB, {half}'
        yield Finding('GPU', f'cuda:{index}', found)


MODEL = dict(
    type='A2MIM',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    backbone=dict(type='TimmBackbone', model_name='test_resnet', mask_after='layer3'),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead', spatial=dict(type='L1Loss'), spectral=dict(type='FocalFrequencyLoss')
    ),
)


def check_training() -> Iterator[Finding]:
    """Train on the CPU and, where there is one, on the first GPU."""
    import torch

    for device in ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]:
        started = time.perf_counter()
        try:
            losses = train_two_steps(device)
        # Whatever goes wrong in here is what the report is for.
        except Exception as error:
            if os.environ.get('A2MIM_TRACEBACK'):
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
