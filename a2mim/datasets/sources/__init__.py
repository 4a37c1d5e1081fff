"""Image sources: where images and labels come from.

A source has ``len(source)``, ``source.load(index)`` which gives a uint8 tensor (C, H, W),
``source.label(index)`` which gives an int or None, and ``source.classes``, a tuple of names. If
an image cannot be read, ``load`` raises BadDataError, and ``source.name(index)`` is its name.
"""

from a2mim.datasets.sources.cifar import CIFAR
from a2mim.datasets.sources.detect import open_source
from a2mim.datasets.sources.image_files import ImageFiles
from a2mim.datasets.sources.image_folder import ImageFolder
from a2mim.datasets.sources.image_list import ImageList
from a2mim.datasets.sources.lmdb_images import LmdbImages
from a2mim.datasets.sources.photo_patches import PhotoPatches
from a2mim.datasets.sources.stored_images import StoredImages
from a2mim.datasets.sources.web_shards import WebShards

__all__ = [
    'CIFAR',
    'ImageFiles',
    'ImageFolder',
    'ImageList',
    'LmdbImages',
    'PhotoPatches',
    'StoredImages',
    'WebShards',
    'open_source',
]
