"""Packages: those that the core needs, those that do not go together, and those behind extras."""

import importlib
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import Requirement

from a2mim.doctor.finding import Finding, Verdict

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
