"""Every code block of the page about loading models runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

from a2mim.weights.released import config_path, find_entry
from small_models import build, classifier, openmixup_names, pretraining, save_checkpoint

PAGE = Path(__file__).parents[2] / 'docs' / 'using_models.md'
BLOCKS = re.findall(r'^```python\n(.*?)^```$', PAGE.read_text(encoding='utf-8'), re.M | re.S)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A folder with the files that the page uses: two runs, a photo and a released file."""
    folder = tmp_path_factory.mktemp('page')
    for run, config in (('pretraining', pretraining()), ('finetuning', classifier())):
        (folder / 'work_dirs' / run).mkdir(parents=True)
        save_checkpoint(config, folder / 'work_dirs' / run / 'latest.pth')
    classifier().dump(folder / 'finetuning.py')
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'photo.jpg')
    (folder / 'photos').mkdir()
    Image.fromarray(pixels).save(folder / 'photos' / 'a.jpg')
    entry = find_entry('a2mim_resnet50_300e')
    model = build(Config.fromfile(config_path(entry.config)))
    (folder / 'home').mkdir()
    torch.save(dict(state_dict=openmixup_names(model)), folder / 'home' / entry.file)
    return folder


@pytest.mark.parametrize('block', BLOCKS, ids=[f'block {i + 1}' for i in range(len(BLOCKS))])
def test_every_block_of_the_page_runs(block, files, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.setenv('A2MIM_HOME', str(files / 'home'))
    exec(compile(block, PAGE.name, 'exec'), {})


def test_no_block_is_overlooked():
    assert len(BLOCKS) == PAGE.read_text(encoding='utf-8').count('```') / 2 == 8


def test_the_first_block_is_ten_lines_at_most_and_draws(files, monkeypatch):
    lines = [line for line in BLOCKS[0].splitlines() if line]
    assert len(lines) <= 10
    monkeypatch.chdir(files)
    exec(compile(BLOCKS[0], PAGE.name, 'exec'), {})
    assert Image.open('reconstruction.png').size == (64, 64)
