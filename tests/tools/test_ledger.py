"""The tables of configs agree with the configs and are up to date."""

import importlib
import json
from pathlib import Path

import pytest
import yaml

from a2mim.weights.released import recipe_files
from toy_run import ROOT, load_tool

CONFIG = '''"""A2MIM pre-training of a ResNet-18 on photographs, 3 epochs.

More about it.
Expect 80.4 top-1 after tuning_ep9
(read-me).
Deviation: the published file has a base
that does not exist.
Deviation: and another.
Run: python tools/train.py \\
         configs/a.py
"""

train_dataloader = dict(
    dataset=dict(
        source=dict(type='ImageFolder', root='data/ImageNet/train'),
        pipeline=[dict(type='RandomResizedCrop', size=64)],
        mask=dict(type='BlockMask', image_size=(64, 96), block_size=32),
    )
)
model = dict(backbone=dict(model_name='resnet18'))
train_cfg = dict(max_epochs=3)
auto_scale_lr = dict(base_batch_size=2048)
'''
TUNING = '''"""Fine-tuning of a ResNet-18, 9 epochs.

Run: python tools/train.py configs/tuning_ep9.py
"""

train_dataloader = dict(
    dataset=dict(source=dict(type='ImageFolder', root='data/ImageNet/train'), pipeline=[])
)
model = dict(backbone=dict(model_name='resnet18'))
train_cfg = dict(max_epochs=9)
auto_scale_lr = dict(base_batch_size=1024)
'''


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/a.py').write_text(CONFIG)
    (tmp_path / 'configs/tuning_ep9.py').write_text(TUNING)
    return tmp_path


@pytest.fixture
def part(monkeypatch):
    """A module of the tool by its name."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools/ledger'))
    return importlib.import_module


@pytest.mark.integration
def test_the_ledger_in_the_repository_is_up_to_date(part):
    files = load_tool('ledger/make_ledger').build_files()
    outdated = [
        path.relative_to(ROOT)
        for path, text in files.items()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    ]
    assert not outdated, 'run python tools/ledger/make_ledger.py'


def test_a_config_is_read_from_its_docstring_and_its_values(part, folder):
    recipe, tuning = part('recipe').read_recipes(folder)
    assert recipe.title == 'A2MIM pre-training of a ResNet-18 on photographs, 3 epochs'
    assert recipe.pretrains
    assert not tuning.pretrains
    (expected,) = recipe.expectations
    assert (expected.value, expected.metric) == ('80.4', 'top-1')
    assert (expected.recipe, expected.source) == ('tuning_ep9', 'read-me')
    assert recipe.deviations == (
        'the published file has a base that does not exist.',
        'and another.',
    )
    assert (recipe.image_size, recipe.dataset, recipe.batch) == ('64×96', 'ImageNet-1K', 2048)
    assert recipe.steps == 3 * 626


def test_a_published_number_is_in_the_rows_of_both_configs(part, folder):
    recipes = part('recipe').read_recipes(folder)
    numbers = part('tables').published_numbers(recipes)
    assert numbers['configs/a.py'] == ['80.4 after [tuning_ep9](/configs/tuning_ep9.py) (read-me)']
    assert numbers['configs/tuning_ep9.py'] == ['80.4 from [a](/configs/a.py) (read-me)']


def test_a_number_after_an_unknown_config_is_refused(part, folder):
    (folder / 'configs/tuning_ep9.py').unlink()
    recipes = part('recipe').read_recipes(folder)
    with pytest.raises(ValueError, match='tuning_ep9'):
        part('tables').published_numbers(recipes)


@pytest.mark.parametrize(
    'before, after, message',
    [('Run: ', 'Command: ', 'Run: COMMAND'), (' after tuning', ' with tuning', 'must read')],
)
def test_a_docstring_without_its_parts_is_refused(part, folder, before, after, message):
    (folder / 'configs/a.py').write_text(CONFIG.replace(before, after))
    with pytest.raises(ValueError, match=message):
        part('recipe').read_recipes(folder)


def test_several_seeds_give_mean_and_deviation(part):
    entry = dict(
        config='configs/a.py',
        start='random weights',
        metric='top-1',
        values=[1.0, 3.0],
        seeds=[0, 1],
        minutes=5,
        where='a CPU',
    )
    table = part('tables').measured_table([entry])
    assert table.splitlines()[-1] == (
        '| [a](/configs/a.py) | random weights | top-1 | 2.00 ± 1.41 | 0, 1 | 5 | a CPU |'
    )


@pytest.mark.integration
def test_metafiles_list_every_config_once(part):
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text(encoding='utf-8'))
    listed = [
        model['Config']
        for path in index['Import']
        for model in yaml.safe_load((ROOT / path).read_text(encoding='utf-8'))['Models']
    ]
    recipes = part('recipe').read_recipes(ROOT)
    assert sorted(listed) == sorted(recipe.path for recipe in recipes)


@pytest.mark.parametrize('kind', ['a2mim_', 'finetune_'])
def test_costs_of_a_model_are_those_that_are_measured(part, kind):
    costs = json.loads((ROOT / 'tools/ledger/costs.json').read_text(encoding='utf-8'))
    recipes = {recipe for recipe in costs if f'/{kind}resnet10t' in recipe}
    path = sorted(recipes)[0]
    measured = load_tool('development/measure_costs').measure(ROOT / path)
    assert measured == costs[path]
    folder = yaml.safe_load((ROOT / path).with_name('metafile.yml').read_text(encoding='utf-8'))
    (listed,) = [model['Metadata'] for model in folder['Models'] if model['Config'] == path]
    assert {key: listed[key] for key in measured} == measured


def test_costs_are_of_configs_and_a_published_one_is_as_published():
    costs = json.loads((ROOT / 'tools/ledger/costs.json').read_text(encoding='utf-8'))
    files = {f'configs/{key}.py' for key in recipe_files()}
    assert len(files & {*costs}) > 0.8 * len(files)
    # Published: 25.56 M and 4.09 G for a ResNet-50 at 224 pixels with its classifier.
    resnet = costs[
        'configs/openmixup/finetune/imagenet/r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100.py'
    ]
    assert resnet == {'FLOPs': pytest.approx(4.089e9, rel=1e-3), 'Parameters': 25557032}
