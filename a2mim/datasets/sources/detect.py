"""Which kind of source a folder is, for tools that take any."""

from pathlib import Path

from a2mim.datasets.sources.image_folder import ImageFolder
from a2mim.datasets.sources.image_list import ImageList
from a2mim.datasets.sources.lmdb_images import KEYS, LmdbImages
from a2mim.datasets.sources.shard_index import SUMMARY
from a2mim.datasets.sources.stored_images import StoredImages
from a2mim.datasets.sources.web_shards import WebShards


def open_source(root: str, list_file: str | None = None, *, channels: int = 3) -> StoredImages:
    """Indexed shards, an LMDB database with its keys, or files: those of a list or all.

    Args:
        root: The folder.
        list_file: Only these files below it.
        channels: C; see ``read_image``.

    Raises:
        FileNotFoundError: If there are no images.
    """
    if list_file is not None:
        return ImageList(list_file, root, channels=channels)
    folder = Path(root).expanduser()
    if (folder / SUMMARY).is_file():
        return WebShards(root, channels=channels)
    if (folder / KEYS).is_file():
        return LmdbImages(root, channels=channels)
    return ImageFolder(root, channels=channels)
