"""Frozen features: labelled images, random baselines, errors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from a2mim.analysis import Network, read_network
from a2mim.analysis.images import LabelledImages
from a2mim.analysis.report_sections import (
    PooledBackbone,
    probe,
    random_baselines,
    standard_error,
)
from toy_run import write_images


@pytest.fixture(scope='module')
def network() -> Network:
    return read_network('net=random:test_convnext')


def test_the_error_of_a_share_is_that_of_the_binomial_distribution() -> None:
    rng = np.random.default_rng(0)
    drawn = 100 * rng.binomial(50, 0.8, 100_000) / 50
    assert standard_error(80, 50) == pytest.approx(drawn.std(), rel=0.02)
    assert standard_error(100, 50) == 0


@pytest.mark.parametrize('name', ['test_convnext', 'test_resnet', 'test_vit'])
def test_features_are_the_mean_of_the_last_map(name: str) -> None:
    one = read_network(f'random:{name}')
    batch = torch.rand(2, 3, *one.image_size)
    with torch.no_grad():
        found = PooledBackbone(one)(batch, mode='tensor')
        whole = one.model.forward_features(batch)
    # A class token comes before the positions of a ViT.
    mean = whole[:, 1:].mean(dim=1) if whole.ndim == 3 else whole.mean(dim=(2, 3))
    torch.testing.assert_close(found, mean)


def test_a_probe_changes_nothing_of_the_network() -> None:
    one = read_network('random:test_resnet')
    before = one.fingerprint()
    splits = [LabelledImages('photos', split, 2, 0) for split in ('train', 'val')]
    probe(one, *splits, batch_size=64)
    assert not any(module.training for module in one.model.modules())
    # In training mode the next pass would move the running statistics.
    one.model(torch.rand(2, 3, *one.image_size))
    assert one.fingerprint() == before


def test_one_random_baseline_for_each_architecture_that_has_none(network: Network) -> None:
    trained = Network('a', 'test_vit', network.model, network.preprocessor, network.image_size)
    baselines = random_baselines([trained, Network('b', *list(vars(trained).values())[1:])], seed=0)
    assert [(one.label, one.source) for one in baselines] == [
        ('random test_convnext', 'random:test_vit')
    ]
    assert random_baselines([trained, network], seed=0) == []


def test_photographs_that_fit_are_others_than_those_that_judge() -> None:
    train, test = (LabelledImages('photos', split, 2, 0) for split in ('train', 'val'))
    assert (len(train), len(test), len(train.classes)) == (28, 224, 14)
    (batch,) = train.batches((32, 32), 64)
    assert batch['image'].shape == (28, 3, 32, 32)
    assert torch.equal(batch['label'].bincount(), torch.full((14,), 2))


def test_a_folder_of_colours_is_told_apart(tmp_path: Path, network: Network) -> None:
    for split, number in (('train', 8), ('val', 4)):
        write_images(tmp_path / split, number)
    splits = [LabelledImages(str(tmp_path), split, 0, 0) for split in ('train', 'val')]
    row = probe(network, *splits, batch_size=16)
    assert row['network'] == 'net' and row['linear probe (%)'] > 90
