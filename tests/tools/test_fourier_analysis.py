import csv
import json

import numpy as np
import pytest

from small_models import classifier, pretraining, save_checkpoint
from toy_run import load_tool

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def tool():
    return load_tool('fourier_analysis/fourier_analysis', 'analysis_tools')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    save_checkpoint(pretraining(), folder / 'pretrained.pth')
    save_checkpoint(classifier(14), folder / 'classifier.pth')
    save_checkpoint(classifier(5), folder / 'five.pth')
    return folder


def run(tool, tmp_path, mode, *args):
    options = ['--num-images', '6', '--batch-size', '4', '--device', 'cpu', '--out', str(tmp_path)]
    tool.main(['--exp-name', mode, *map(str, args), *options])
    return tmp_path / mode


def table(folder, name):
    with open(folder / f'{name}.csv', encoding='utf-8') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    'mode, source',
    [
        ('fourier', 'random:test_vit'),
        ('variance', 'pretrained.pth'),
        ('reconstruction', 'pretrained.pth'),
        ('filter', 'pretrained.pth'),
        ('noise', 'classifier.pth'),
    ],
)
def test_every_mode_writes_figures_and_tables(tool, files, tmp_path, mode, source):
    network = source if source.startswith('random:') else files / source
    folder = run(tool, tmp_path, mode, f'a={network}', '--cutoffs', '0.3', '1.0', '--bands', '2')
    index = json.loads((folder / 'result.json').read_text())
    assert index['figures'] and index['tables']
    for one in index['figures']:
        assert (folder / one['file']).is_file()
        assert (folder / one['file']).with_suffix('.pdf').is_file()
    assert table(folder, mode)


def test_the_published_spelling_is_taken(tool):
    assert tool.parse_args(['--exp_name', 'variance', 'random:test_vit']).exp_name == 'variance'


def test_an_unknown_mode_is_refused(tool, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool.parse_args(['--exp-name', 'wavelet', 'random:test_vit'])
    assert "invalid choice: 'wavelet'" in capsys.readouterr().err


def test_strong_filters_cost_more_than_none(tool, files, tmp_path):
    args = ('--cutoffs', '0', '1.414')
    folder = run(tool, tmp_path, 'filter', f'a={files}/pretrained.pth', *args)
    score = {(r['input'], r['frequency']): float(r['score']) for r in table(folder, 'filter')}
    # All of an image is at frequencies from 0 to 1.414 π; nothing is lost there.
    assert score['low-pass', '1.414'] == pytest.approx(score['clean', ''], rel=1e-5)
    assert score['low-pass', '0.0'] != pytest.approx(score['clean', ''], rel=1e-5)


def test_noise_of_no_strength_changes_nothing(tool, files, tmp_path):
    args = ('--noise-rms', '0', '--bands', '2')
    folder = run(tool, tmp_path, 'noise', f'a={files}/pretrained.pth', *args)
    scores = [float(row['score']) for row in table(folder, 'noise')]
    np.testing.assert_allclose(scores, scores[0])


@pytest.mark.parametrize(
    'mode, args, message',
    [
        ('noise', ['a=random:test_vit'], 'has 1000 classes, the images have 14'),
        ('noise', ['{files}/five.pth'], 'has 5 classes, the images have 14'),
        ('reconstruction', ['{files}/five.pth'], 'five has no decoder and reconstructs nothing'),
        ('noise', ['{files}/five.pth', '{files}/pretrained.pth'], 'no score in common'),
        ('filter', ['{files}/pretrained.pth', '--cutoffs', '1.5'], '1.5 π is out of range'),
        ('noise', ['{files}/pretrained.pth', '--bands', '0'], '0 bands of noise'),
        ('noise', ['{files}/pretrained.pth', '--noise-rms', '-1'], 'must be 0 or more'),
    ],
)
def test_bad_input_is_named(tool, files, tmp_path, capsys, mode, args, message):
    with pytest.raises(SystemExit, match='2'):
        run(tool, tmp_path, mode, *(arg.format(files=files) for arg in args))
    assert message in capsys.readouterr().err


def test_another_measurement_is_kept_beside_the_first(tool, files, tmp_path, monkeypatch):
    lines = [(f'a={files}/pretrained.pth', '--bands', '2'), (f'a={files}/classifier.pth',)]
    tables = [table(run(tool, tmp_path, 'noise', *line), 'noise') for line in lines]
    monkeypatch.setattr('a2mim.analysis.frequency_corruption._score', lambda *args: {}['measured'])
    assert [table(run(tool, tmp_path, 'noise', *line), 'noise') for line in lines] == tables
