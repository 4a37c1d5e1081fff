"""A loss that is not finite on one of two processes moves nothing on either."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from toy_run import ROOT

WORKER = Path(__file__).with_name('two_processes.py')


def same(left: object, right: object) -> bool:
    try:
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    except AssertionError:
        return False
    return True


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """What ``two_processes.py`` left."""
    folder = tmp_path_factory.mktemp('two')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, WORKER, folder], env=environment, timeout=120, check=True)
    return folder


@pytest.mark.integration
@pytest.mark.parametrize('fused', [False, True])
def test_a_bad_loss_on_one_of_two_processes_moves_nothing_on_either(folder, fused):
    found = [torch.load(folder / f'{rank} {fused}.pt', weights_only=True) for rank in (0, 1)]
    for result in found:
        states = result['states']
        for name in ('optimizer', 'weights'):
            kept, before = states[1][name], states[0][name]
            if name == 'weights':  # the count of batches goes on; nothing is computed from it
                kept, before = (
                    {key: value for key, value in state.items() if value.is_floating_point()}
                    for state in (kept, before)
                )
            assert same(kept, before)
            assert not same(states[2][name], states[1][name])
    assert [entry[:3] for entry in found[0]['said']] == [
        (False, False, False),
        (True, True, False),
        (False, False, False),
        (False, False, True),  # asked of process 1 alone
    ]
    assert [entry[:3] for entry in found[1]['said']] == [entry[:3] for entry in found[0]['said']]
    assert [result['said'][1][3] for result in found] == [False, True]
    weights = [result['states'][3]['weights'] for result in found]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in ('0.weight', '1.weight'))
