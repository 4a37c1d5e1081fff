"""Running statistics come back as they were, bit for bit, or stay as they have become."""

import pytest
import torch
from torch import nn

from a2mim.engine.guard import BufferSnapshot


@pytest.mark.parametrize('bad', [True, False])
def test_statistics_of_a_bad_batch_are_forgotten_and_of_a_good_one_kept(bad):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4).double())
    model[2].running_mean.add_(torch.rand(4, dtype=torch.double))
    before = [buffer.clone() for buffer in model.buffers()]
    snapshot = BufferSnapshot(model)
    snapshot.take()
    model[:2](torch.full((2, 3, 4, 4), float('nan') if bad else 2.0))
    after = [buffer.clone() for buffer in model.buffers()]
    snapshot.restore_where(torch.tensor(float(bad)))
    for buffer, old, new in zip(model.buffers(), before, after, strict=True):
        if buffer.is_floating_point():
            assert torch.equal(buffer, old if bad else new)


def test_the_remembered_values_have_names_and_shapes_of_the_model():
    model = nn.Sequential(nn.BatchNorm2d(3))
    snapshot = BufferSnapshot(model)
    snapshot.take()
    assert {name: tuple(value.shape) for name, value in snapshot.saved().items()} == {
        '0.running_mean': (3,),
        '0.running_var': (3,),
    }


def test_a_model_without_buffers_has_nothing_to_remember():
    snapshot = BufferSnapshot(nn.Linear(2, 2))
    snapshot.take()
    snapshot.restore_where(torch.tensor(1.0))
    assert snapshot.saved() == {}
