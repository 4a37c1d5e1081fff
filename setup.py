"""Packaging of a2mim: the version lives in ``a2mim/version.py``, the needs in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'a2mim/version.py').read_text())[1]

# Libraries that exports are read back in.
EXPORT = ['onnx>=1.17', 'onnxscript>=0.3', 'onnxruntime>=1.20', 'transformers>=4.49']
# Images in shards: what writes tar files of the WebDataset layout, and LMDB databases.
SHARDS = ['webdataset>=0.2.100', 'lmdb>=1.4']
# Compressed GeoTIFF and JPEG 2000 files, and DICOM files.
GEO = ['imagecodecs>=2023.1']
DICOM = ['pydicom>=3']
# Class activation maps, and UMAP beside t-SNE.
ANALYSIS = ['grad-cam>=1.5', 'umap-learn>=0.5']
# What `make lint type` and pre-commit run: pinned here and nowhere else.
LINT = ['ruff==0.17.6', 'pyright[nodejs]==1.1.414']
# Packages that a trunk is taken to: pure Python, their operators come from torchvision.
SEGMENTATION = ['onedl-mmsegmentation>=1.4.2,<1.5', 'ftfy', 'regex']
DETECTION = ['onedl-mmdetection>=3.5.1,<3.6', 'pycocotools']

setup(
    name='a2mim',
    version=VERSION,
    description='Masked image modelling for any vision backbone, on your own unlabelled images',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    # The recipes travel inside the package, where a2mim.weights.released finds them.
    packages=[*find_packages(include=['a2mim', 'a2mim.*']), 'a2mim.configs'],
    package_dir={'a2mim.configs': 'configs'},
    package_data={
        'a2mim': ['py.typed'],
        'a2mim.configs': ['**/*.py'],
        'a2mim.weights': ['released.json'],
    },
    install_requires=(ROOT / 'requirements.txt').read_text().split(),
    extras_require={
        'export': EXPORT,
        'shards': SHARDS,
        'geo': GEO,
        'dicom': DICOM,
        'analysis': ANALYSIS,
        'test': [
            'pytest>=8',
            'pytest-xdist>=3.5',
            *LINT,
            *EXPORT,
            *SHARDS,
            *GEO,
            *DICOM,
            *ANALYSIS,
        ],
        'seg': SEGMENTATION,
        'det': DETECTION,
    },
)
