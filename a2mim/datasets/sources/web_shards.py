"""Images in tar files of the WebDataset layout, for more of them than a folder can hold."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

from a2mim.datasets.sources.shard_index import NO_LABEL, member_at, read_index, shard_starts
from a2mim.datasets.sources.stored_images import StoredImages
from a2mim.registry import DATASETS

MAX_OPEN = 32  # files


@DATASETS.register_module()
class WebShards(StoredImages):
    """Images in the tar files of a folder, read by number through an index.

    Neither the order of an epoch nor what is random in a sample differs from that of a folder, and
    a run resumes as exactly. ``ShardSampler`` keeps neighbouring reads in a few files. Only local
    files (or mounted ones) are read.

    Args:
        root: Folder of ``*.tar`` with the index that ``tools/prepare_data/make_shards.py`` or, for
            shards from elsewhere, ``tools/prepare_data/index_shards.py`` has written.
        channels: C; see ``read_image``.
        shrink_to: Faster, coarser decoding of large JPEG files; see ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the index is not that of these shards.

    Reference:
        Aizman et al., 2020 (https://arxiv.org/abs/2001.01858); https://github.com/webdataset.
    """

    def __init__(
        self,
        root: str,
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        root = os.path.expanduser(root)
        entries, self.shards, classes = read_index(Path(root))
        labels = None if entries['label'][0] == NO_LABEL else entries['label']
        super().__init__(
            root,
            entries,
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
        )
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()  # the one used last at the end

    def __getstate__(self) -> dict:
        """Open files do not travel to a process that is not forked."""
        return {**vars(self), '_files': OrderedDict()}

    @property
    def starts(self) -> list[int]:
        """The numbers of the images with which the shards begin."""
        return shard_starts(self.entries).tolist()

    def name(self, index: int) -> str:
        """``shard::member``."""
        entry = self.entries[index]
        path = os.path.join(self.root, self.shards[entry['shard']])
        return f'{path}::{member_at(Path(path), int(entry["offset"]))}'

    def suffix(self, index: int) -> str:
        """The ending of the member, in small letters."""
        return self.entries[index]['suffix'].decode()

    def content(self, index: int) -> bytes:
        """The bytes of the member."""
        entry = self.entries[index]
        size, offset = int(entry['size']), int(entry['offset'])
        # A position of its own for every read: forked processes share that of an open file.
        data = os.pread(self._file(int(entry['shard'])).fileno(), size, offset)
        if len(data) < size:
            raise OSError(f'the shard ends after {len(data)} of its {size} bytes')
        return data

    def _file(self, shard: int) -> BinaryIO:
        """A shard, open; the one not used for longest is closed."""
        if shard not in self._files:
            if len(self._files) == MAX_OPEN:
                self._files.popitem(last=False)[1].close()
            path = os.path.join(self.root, self.shards[shard])
            self._files[shard] = open(path, 'rb')  # noqa: SIM115 (it stays open)
        self._files.move_to_end(shard)
        return self._files[shard]
