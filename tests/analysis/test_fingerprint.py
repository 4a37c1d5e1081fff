"""A fingerprint is that of the weights."""

import torch

from a2mim.analysis import read_network


def test_a_fingerprint_changes_with_any_weight():
    network = read_network('random:test_vit')
    before = network.fingerprint()
    assert before == read_network('random:test_vit').fingerprint()
    with torch.no_grad():
        next(network.model.parameters())[:1] += 1
    assert network.fingerprint() != before
