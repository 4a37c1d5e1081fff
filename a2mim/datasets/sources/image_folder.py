"""A folder of images, with or without one folder per class."""

import os
from collections.abc import Iterator

from a2mim.datasets.reading import IMAGE_SUFFIXES
from a2mim.datasets.sources.image_files import ImageFiles
from a2mim.registry import DATASETS


@DATASETS.register_module()
class ImageFolder(ImageFiles):
    """All images below a folder, however deep, in the order of their paths.

    Hidden files and folders are left out; links are followed.

    Args:
        root: The folder.
        with_labels: Take the folder directly below ``root`` as the class. Classes are numbered
            in the order of their names.
        channels: C; see ``read_image``.
        shrink_to: Faster, coarser decoding of large JPEG files; see ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If the folder is missing or holds no image.
        ValueError: If ``with_labels`` is set and a class folder is empty or images lie outside.
    """

    def __init__(
        self,
        root: str,
        with_labels: bool = False,
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        root = os.path.expanduser(root)
        if not os.path.isdir(root):
            raise FileNotFoundError(f'root={root!r} is not a folder; give the folder of images')
        paths = sorted(_images_below(root))
        if not paths:
            raise FileNotFoundError(
                f'root={root!r} holds no image; files with these endings are looked for, '
                f'in sub-folders too: {" ".join(IMAGE_SUFFIXES)}'
            )
        classes = _class_folders(root, paths) if with_labels else []
        number = {name: label for label, name in enumerate(classes)}
        labels = [number[path.split(os.sep, 1)[0]] for path in paths] if with_labels else None
        super().__init__(
            root,
            paths,
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
        )


def _images_below(root: str) -> Iterator[str]:
    """Paths of images relative to ``root``."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith('.')]
        below = '' if folder == root else os.path.relpath(folder, root) + os.sep
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.'):
                yield below + name


def _class_folders(root: str, paths: list[str]) -> list[str]:
    """Sorted names of the folders directly below ``root``, each with an image."""
    loose = [path for path in paths if os.sep not in path]
    if loose:
        raise ValueError(
            f'with_labels=True takes the folders in root={root!r} as classes, but {len(loose)} '
            f'images lie beside them, such as {loose[0]!r}; move them or set with_labels=False'
        )
    filled = {path.split(os.sep, 1)[0] for path in paths}
    folders = sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != '.'
    )
    empty = [name for name in folders if name not in filled]
    if empty:
        raise ValueError(
            f'with_labels=True takes the folders in root={root!r} as classes, but these hold no '
            f'image: {empty[:5]}; fill or remove them'
        )
    return folders
