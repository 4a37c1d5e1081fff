"""A process group of one process, in which everything is sharded into one share."""

from collections.abc import Iterator

import pytest
from torch import distributed


@pytest.fixture
def group(tmp_path) -> Iterator[None]:
    where = f'file://{tmp_path}/meeting'
    distributed.init_process_group('gloo', init_method=where, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
