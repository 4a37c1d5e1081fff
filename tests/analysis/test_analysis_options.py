"""The command line that analyses share."""

import argparse
import json

import pytest

from a2mim.analysis import add_analysis_options, open_images, open_networks, open_results


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_analysis_options(parser, out='out', num_images=3)
    return parser.parse_args(words)


def test_networks_come_in_the_order_of_the_command_line():
    args = parse('b=random:test_vit', 'a=random:test_resnet', '--device', 'cpu')
    assert [network.label for network in open_networks(args)] == ['b', 'a']
    assert len(open_images(args)) == 3


def test_two_networks_of_one_name_are_refused():
    args = parse('random:test_vit', 'random:test_vit', '--device', 'cpu')
    with pytest.raises(ValueError, match=r"called 'random test_vit'; write NAME=SOURCE"):
        open_networks(args)


@pytest.mark.parametrize('device', ['gpu', 'cuda:9', ''])
def test_a_device_that_is_not_there_is_named(device):
    args = parse('random:test_vit', '--device', device)
    with pytest.raises(ValueError, match=f'--device {device} cannot be used .*try --device cpu'):
        open_networks(args)


def test_results_know_what_they_were_measured_with(tmp_path):
    args = parse('random:test_vit', '--out', str(tmp_path), '--seed', '4')
    open_results(args, 'T', bands=5).finish()
    assert json.loads((tmp_path / 'result.json').read_text())['settings'] == dict(
        subjects=['random:test_vit'], images='photos', num_images=3, seed=4, bands=5
    )
