"""What was measured before an interruption is not measured again."""

import json

import numpy as np
import pytest

from a2mim.analysis import PartStore
from a2mim.version import __version__


def never() -> dict:
    raise AssertionError('measured again')


def test_a_part_is_measured_once(tmp_path):
    arrays = dict(a=np.arange(3), b=np.ones((2, 2)))
    PartStore(tmp_path, 'net', dict(seed=0)).compute('one', lambda: arrays)
    found = PartStore(tmp_path, 'net', dict(seed=0)).compute('one', never)
    assert {key: value.tolist() for key, value in found.items()} == {
        key: value.tolist() for key, value in arrays.items()
    }


def test_a_measurement_that_fails_leaves_no_part(tmp_path):
    store = PartStore(tmp_path, 'net', {})
    with pytest.raises(AssertionError):
        store.compute('one', never)
    assert store.compute('one', lambda: dict(a=np.ones(1)))['a'] == 1


@pytest.mark.parametrize('damage', [b'', b'PK\x03\x04 and no more', b'text'])
def test_a_damaged_part_is_measured_again(tmp_path, damage):
    store = PartStore(tmp_path, 'net', {})
    store.compute('one', lambda: dict(a=np.zeros(1)))
    (store.folder / 'one.npz').write_bytes(damage)
    assert store.compute('one', lambda: dict(a=np.ones(1)))['a'] == 1


@pytest.mark.parametrize(
    'other', [('net', dict(seed=1)), ('net', dict(seed=0, orders=[1])), ('a/b', dict(seed=0))]
)
def test_parts_of_other_settings_are_not_mixed(tmp_path, other):
    first, second = PartStore(tmp_path, 'net', dict(seed=0)), PartStore(tmp_path, *other)
    for store, value in ((first, 1), (second, 2)):
        store.compute('one', lambda value=value: dict(a=np.array(value)))
    assert first.folder.parent == second.folder.parent == tmp_path
    assert (first.compute('one', never)['a'], second.compute('one', never)['a']) == (1, 2)


def test_settings_lie_beside_the_parts(tmp_path):
    folder = PartStore(tmp_path, 'net', dict(seed=0, orders=(1, 2))).folder
    written = json.loads((folder / 'settings.json').read_text(encoding='utf-8'))
    assert written == dict(seed=0, orders=[1, 2], version=__version__)
