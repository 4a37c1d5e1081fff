"""Runs of one process have names of their own, however fast one follows the other."""

import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from a2mim.engine.launch import unique_name


@pytest.fixture(autouse=True, params=[DefaultScope, MMLogger])
def runs(request, monkeypatch) -> dict[str, None]:
    """Names that one of the two still knows, whatever the other has forgotten."""
    for manager in (DefaultScope, MMLogger):
        monkeypatch.setattr(manager, '_instance_dict', {})
    return request.param._instance_dict


def test_the_first_run_keeps_its_name(runs):
    runs['other_20261124_120000'] = None
    assert unique_name('toy') == 'toy'


def test_every_further_run_gets_a_number(runs):
    names = []
    for _ in range(3):
        names.append(unique_name('toy'))
        runs[f'{names[-1]}_20261124_120000'] = None
    assert names == ['toy', 'toy_run2', 'toy_run3']


def test_a_longer_name_is_another_one(runs):
    runs['toy_test_20261124_120000'] = None
    assert unique_name('toy') == 'toy'
