"""What every test of a config needs: the names of this package."""

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope, init_default_scope


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    init_default_scope('a2mim')
    yield
    DefaultScope._instance_dict.popitem()
