"""What was measured before an interruption is not measured again."""

import numpy as np
import pytest

from a2mim.analysis import PartStore


def never() -> dict:
    raise AssertionError('measured again')


def test_a_part_is_measured_once(tmp_path):
    arrays = dict(a=np.arange(3), b=np.ones((2, 2)))
    PartStore(tmp_path, dict(seed=0)).compute('one', lambda: arrays)
    found = PartStore(tmp_path, dict(seed=0)).compute('one', never)
    assert {key: value.tolist() for key, value in found.items()} == {
        key: value.tolist() for key, value in arrays.items()
    }


def test_a_measurement_that_fails_leaves_no_part(tmp_path):
    store = PartStore(tmp_path, {})
    with pytest.raises(AssertionError):
        store.compute('one', never)
    assert store.compute('one', lambda: dict(a=np.ones(1)))['a'] == 1


@pytest.mark.parametrize('damage', [b'', b'PK\x03\x04 and no more', b'text'])
def test_a_damaged_part_is_measured_again(tmp_path, damage):
    store = PartStore(tmp_path, {})
    store.compute('one', lambda: dict(a=np.zeros(1)))
    (tmp_path / 'one.npz').write_bytes(damage)
    assert store.compute('one', lambda: dict(a=np.ones(1)))['a'] == 1


def test_parts_with_other_settings_are_not_mixed(tmp_path):
    PartStore(tmp_path, dict(seed=0, orders=(1, 2)))
    PartStore(tmp_path, dict(seed=0, orders=(1, 2)))
    with pytest.raises(ValueError, match=r'seed=0, not 1; give another --out'):
        PartStore(tmp_path, dict(seed=1, orders=(1, 2)))
