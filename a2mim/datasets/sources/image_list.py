"""Images named in a list file, as in the published ImageNet lists."""

import os
from pathlib import Path

from a2mim.datasets.reading import IMAGE_SUFFIXES
from a2mim.datasets.sources.image_files import ImageFiles
from a2mim.registry import DATASETS


@DATASETS.register_module()
class ImageList(ImageFiles):
    """One image a line, ``path`` or ``path label``, in the order of the file.

    Paths may contain spaces. All lines have a label or none has. Classes are named by number.

    Args:
        list_file: The text file, UTF-8; names of files may be other bytes.
        root: Folder to which the paths are relative.
        channels: C; see ``read_image``.
        shrink_to: Faster, coarser decoding of large JPEG files; see ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If the list, the folder or the first image is missing.
        ValueError: If the list has no entry, or only some lines have a label.
    """

    def __init__(
        self,
        list_file: str,
        root: str,
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        list_file, root = os.path.expanduser(list_file), os.path.expanduser(root)
        if not os.path.isfile(list_file):
            raise FileNotFoundError(f'list_file={list_file!r} does not exist')
        paths, labels = read_list(list_file)
        # Only the first: looking for a million files would delay every start.
        if not os.path.isfile(os.path.join(root, paths[0])):
            raise FileNotFoundError(
                f'{paths[0]!r}, the first entry of {list_file!r}, is not in root={root!r}; '
                'paths in the list are relative to root'
            )
        classes = [str(label) for label in range(max(labels) + 1)] if labels else []
        super().__init__(
            root,
            paths,
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
        )


def read_list(list_file: str) -> tuple[list[str], list[int] | None]:
    """Paths and labels of a list; no label at all gives None.

    Raises:
        ValueError: If the list has no entry, or only some lines have a label.
    """
    text = Path(list_file).read_text(encoding='utf-8', errors='surrogateescape')
    lines = text.split('\n')  # splitlines would also cut at characters that names may contain
    entries = [_split(line.strip()) for line in lines if line.strip()]
    if not entries:
        raise ValueError(f'list_file={list_file!r} has no entry; write one "path [label]" a line')
    paths, labels = zip(*entries, strict=True)
    labelled = sum(label is not None for label in labels)
    if labelled not in (0, len(labels)):
        odd = paths[labels.index(None)]
        raise ValueError(
            f'list_file={list_file!r} has a label in {labelled} of {len(labels)} lines but not '
            f'for {odd!r}; label all images or none'
        )
    return list(paths), list(labels) if labelled else None


def _split(line: str) -> tuple[str, int | None]:
    """A last word of digits is a label, unless the line ends as the name of an image does."""
    path, _, last = line.rpartition(' ')
    if path and last.isdecimal() and not line.lower().endswith(IMAGE_SUFFIXES):
        return path.rstrip(), int(last)
    return line, None
