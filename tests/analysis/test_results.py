"""Figures, tables and arrays on the disk, and an index of them."""

import csv
import json

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from a2mim.analysis import Results


def test_a_finished_folder_names_everything_in_it(tmp_path):
    results = Results(tmp_path / 'new/folder', 'A title', dict(seed=3))
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [1, 0])
    results.add_figure(figure, 'curve', 'What it shows, in pixels.')
    results.add_table([dict(name='a, b', value=1.5), dict(name='c', value=2)], 'numbers', 'Two.')
    results.add_arrays('raw', x=np.arange(3))
    assert not (results.folder / 'result.json').exists(), 'it is not finished'
    results.finish()
    index = json.loads((results.folder / 'result.json').read_text())
    assert index['title'] == 'A title'
    assert index['settings'] == dict(seed=3)
    assert index['figures'] == [dict(file='curve.png', caption='What it shows, in pixels.')]
    assert index['tables'] == [dict(file='numbers.csv', caption='Two.')]
    with Image.open(results.folder / 'curve.png') as image:
        assert image.size == (300, 150)
    assert (results.folder / 'curve.pdf').read_bytes().startswith(b'%PDF')
    with (results.folder / 'numbers.csv').open(newline='') as file:
        assert [*csv.DictReader(file)] == [
            dict(name='a, b', value='1.5'),
            dict(name='c', value='2'),
        ]
    assert np.load(results.folder / 'raw.npz')['x'].tolist() == [0, 1, 2]


def test_a_folder_that_is_measured_anew_is_unfinished_until_it_is_done(tmp_path):
    for _ in range(2):
        results = Results(tmp_path, 'T', {})
        results.add_arrays('raw', x=np.arange(3))
        assert not (tmp_path / 'result.json').exists()
        results.finish()
    Results(tmp_path, 'T', {})
    assert (tmp_path / 'result.json').exists(), 'nothing has been written yet'
