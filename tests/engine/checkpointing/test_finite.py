"""What is not finite is found, wherever it is, and named."""

import pytest
import torch

from a2mim.engine.training_state import check_finite
from a2mim.errors import NotFiniteStateError


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_bad_number_is_enough(value, dtype):
    bad = torch.ones(100, dtype=dtype)
    bad[37] = value
    state = dict(good=torch.ones(2), optimizer=dict(state={3: dict(exp_avg=bad)}))
    with pytest.raises(NotFiniteStateError, match=r'not finite: optimizer\.state\.3\.exp_avg;'):
        check_finite(state)


def test_the_first_of_many_are_named_and_the_others_counted():
    bad = torch.tensor([float('nan')])
    with pytest.raises(NotFiniteStateError, match=r'not finite: 0, 1, 2 and 4 more'):
        check_finite([bad] * 7)


def test_large_numbers_integers_and_empty_tensors_pass():
    largest = torch.finfo(torch.float32).max
    check_finite([torch.full((9,), largest), torch.tensor([2**62]), torch.empty(0), float('inf')])
