import csv

import numpy as np
import pytest
import torch

from a2mim.analysis import AnalysisImages, interactions, networks, read_network
from a2mim.analysis.interactions import InteractionSettings, measure_interactions
from toy_run import load_tool, write_images

pytestmark = pytest.mark.integration

SMALL = [
    '--num-images',
    '2',
    '--grid',
    '4',
    '--pairs',
    '2',
    '--contexts',
    '3',
    '--batch-size',
    '64',
]
RATIOS = ['--ratios', '0', '0.5', '1']
SETTINGS = InteractionSettings(grid=4, pairs=2, contexts=3, ratios=(0.0, 0.5, 1.0), batch_size=64)


def run(*args: str) -> None:
    module = load_tool('representation_bottleneck/interactions', 'analysis_tools')
    module.main([*args, '--device', 'cpu'])


@pytest.fixture
def images() -> AnalysisImages:
    return AnalysisImages('photos', 3)


def classifier():
    return read_network('random:test_vit')


def trunk():
    network = read_network('trunk=random:test_resnet')
    network.model.reset_classifier(0)
    return network


def test_the_command_leaves_a_table_arrays_and_a_figure(tmp_path, capsys):
    out = tmp_path / 'out'
    run('a=random:test_vit', 'b b=random:test_resnet', *SMALL, *RATIOS, '--out', str(out))
    rows = list(csv.DictReader((out / 'interactions.csv').open()))
    assert [row['order'] for row in rows] == ['0', '7', '14'] * 2
    assert {row['output'] for row in rows} == {'modified'}
    curve = np.load(out / 'J_b_b.npy')
    np.testing.assert_allclose(curve, [float(row['J']) for row in rows[3:]])
    assert np.load(out / 'interactions.npz')['interactions_0'].shape == (2, 3, 2)
    for name in ('interactions.png', 'interactions.pdf', 'result.json'):
        assert (out / name).is_file()
    assert 'a: 80 forward passes at' in capsys.readouterr().out  # 2 · 4 · 2 · (1 + 3 + 1)


def test_an_interrupted_measurement_goes_on(tmp_path, images, monkeypatch):
    networks = [classifier(), trunk()]
    whole = measure_interactions(networks, images, SETTINGS, tmp_path / 'whole')
    measured = []
    real = interactions.measure_image

    def counted(*args):
        measured.append(args[2])
        if len(measured) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(interactions, 'measure_image', counted)
    with pytest.raises(KeyboardInterrupt):
        measure_interactions(networks, images, SETTINGS, tmp_path / 'cut')
    again = measure_interactions(networks, images, SETTINGS, tmp_path / 'cut')
    assert measured == [0, 1, 2, 2, 0, 1, 2]
    for label, one in whole.items():
        np.testing.assert_array_equal(one.delta, again[label].delta)


def test_progress_counts_every_pass_once_stored_or_not(tmp_path, images):
    for _ in range(2):
        told = []
        measure_interactions([trunk()], images, SETTINGS, tmp_path, told.append)
        assert sum(told) == 3 * SETTINGS.passes_per_image


def test_a_trunk_is_measured_by_its_feature(tmp_path, images):
    found = measure_interactions([trunk()], images, SETTINGS, tmp_path)['trunk']
    assert found.output == 'feature'
    assert found.estimate.strength.min() > 0


def test_full_context_is_the_difference_of_four_masked_images(tmp_path, images):
    network = trunk()
    found = measure_interactions([network], images, SETTINGS, tmp_path)['trunk']
    image = network.normalize(images.pixels(network.image_size, 0, 1))
    first, second = found.pairs[0, 0].tolist()
    side = network.image_size[0] // 4
    values = []
    with torch.no_grad():
        unit = network.model(image)[0] / network.model(image)[0].norm()
        for absent in ((), (second,), (first,), (first, second)):
            masked = image.clone()
            for cell in absent:
                row, column = cell // 4 * side, cell % 4 * side
                masked[..., row : row + side, column : column + side] = 0
            values.append(float(network.model(masked)[0] @ unit))
    expected = values[0] - values[1] - values[2] + values[3]
    assert found.delta[0, 2, 0, 0] == pytest.approx(expected, abs=1e-5)


def test_other_settings_do_not_mix_with_those_of_before(tmp_path, images):
    other = InteractionSettings(**{**SETTINGS.__dict__, 'contexts': 4})
    alone = measure_interactions([trunk()], images, other, tmp_path / 'alone')['trunk']
    measure_interactions([trunk()], images, SETTINGS, tmp_path / 'both')
    after = measure_interactions([trunk()], images, other, tmp_path / 'both')['trunk']
    np.testing.assert_array_equal(after.estimate.relative, alone.estimate.relative)


def test_correct_only_leaves_wrong_images_out(tmp_path):
    write_images(tmp_path / 'data', 2)
    images = AnalysisImages(str(tmp_path / 'data'), 6, labelled=True)
    network = classifier()
    network.model.reset_classifier(3)
    torch.nn.init.zeros_(network.model.head.weight)
    network.model.head.bias.data = torch.tensor([0.0, 1.0, 0.0])  # always the second class
    chosen = InteractionSettings(**{**SETTINGS.__dict__, 'correct_only': True})
    found = measure_interactions([network], images, chosen, tmp_path / 'store')
    kept = found[network.label].images
    assert [int(images.labels[number]) for number in kept] == [1, 1]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--grid', '7'], 'grid=7 does not divide the 160 pixels of a; grids that do are 2, 4'),
        (['--grid', '300'], 'grid=300 does not divide'),
        (['--output', 'feature'], "a is a classifier; 'feature' is for backbones"),
        (['--target', 'label'], 'a has 1000 classes, the images'),
        (['--correct-only'], 'labels cannot be used'),
        (['--num-images', '1'], '1 image: confidence intervals need at least 2'),
        (['--pairs', '1000'], 'has 90 pairs of patches'),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, capsys, arguments, message):
    out = tmp_path / 'out'
    with pytest.raises(SystemExit, match='2'):
        run('a=random:test_vit', *SMALL, *RATIOS, '--out', str(out), *arguments)
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_network_without_interactions_is_said_to_have_none(tmp_path, capsys, monkeypatch):
    # Logits that are constant: nothing depends on any patch.
    def constant(*args):
        network = read_network('a=random:test_vit')
        torch.nn.init.zeros_(network.model.head.weight)
        return network

    monkeypatch.setattr(networks, 'read_network', constant)
    run('a', *SMALL, *RATIOS, '--out', str(tmp_path / 'out'))
    assert 'no interactions beyond rounding, so J is not defined' in capsys.readouterr().out


def test_a_trunk_has_no_logits(tmp_path, images):
    chosen = InteractionSettings(**{**SETTINGS.__dict__, 'output': 'yi'})
    with pytest.raises(ValueError, match="trunk has no classifier, so it has no output 'yi'"):
        measure_interactions([trunk()], images, chosen, tmp_path)
