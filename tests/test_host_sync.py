"""``no_host_sync`` detects host synchronisation, and nothing else."""

import pytest
import torch

from host_sync import HostSyncError, no_host_sync

VALUES = torch.arange(4.0)


@pytest.mark.parametrize(
    'read',
    [
        lambda: VALUES.sum().item(),
        lambda: bool(VALUES.sum() > 0),
        lambda: VALUES[VALUES > 1],
        lambda: VALUES.clone().__setitem__(VALUES > 1, torch.ones(2)),
        lambda: VALUES.masked_select(VALUES > 1),
        lambda: VALUES.nonzero(),
        lambda: torch.where(VALUES > 1),
        lambda: VALUES.unique(),
        lambda: VALUES.equal(VALUES),
    ],
    ids=['item', 'if', 'mask', 'set', 'select', 'nonzero', 'where', 'unique', 'equal'],
)
def test_reading_values_is_caught(read):
    with pytest.raises(HostSyncError), no_host_sync():
        read()


def test_reading_values_in_the_backward_pass_is_caught():
    leaf = VALUES.clone().requires_grad_()
    leaf.register_hook(lambda grad: grad * grad.max().item())
    with pytest.raises(HostSyncError), no_host_sync():
        leaf.sum().backward()


def test_arithmetic_and_integer_indexing_pass():
    leaf = VALUES.clone().requires_grad_()
    with no_host_sync():
        picked = leaf[torch.tensor([0, 2])]
        torch.where(picked > 1, picked, 0).masked_fill(picked > 3, 0).sum().backward()
    assert leaf.grad.tolist() == [0, 0, 1, 0]
