"""Whole models equal the published ones: loss, gradient norm and three optimiser steps.

Numbers and weights: "Whole models" in tests/data/README.md. The weights take the way of a released
file: written under published names, imported by the tool.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine import Config

import a2mim.engine.registered  # noqa: F401, registers the optimiser rules
from a2mim.engine.resume import FitWeightsHook
from a2mim.models import A2MIM
from a2mim.models.data_preprocessor import count_masked
from a2mim.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from a2mim.weights.safe_load import load_file
from formulas import fill, image
from released_file import through_the_importer, write_released

ROOT = Path(__file__).parents[3]
CASES = json.loads((ROOT / 'tests/data/whole_models.json').read_text())
RECIPES = ROOT / 'configs/openmixup/pretrain/a2mim/imagenet'
# Config that trains the case, and what is smaller in it.
SETTINGS = {
    'r50_l3_init_64': ('r50_l3_sz224_init_8xb256_cos_ep100', {}),
    'convnext_small_96': (
        'convnext_s_l3_sz224_init_8xb256_cos_ep300',
        dict(depths=(2, 1, 3, 2), dims=(24, 48, 96, 192)),
    ),
    'vit_reduced_64': (
        'vit_base_l0_sz224_8xb128_accu2_step_ep800',
        dict(embed_dim=96, depth=4, num_heads=3, mlp_ratio=3, img_size=64, drop_path_rate=0.0),
    ),
}


def fresh(name: str) -> tuple[A2MIM, Config]:
    """The model of the shipped config, in float64, as it is built."""
    recipe, smaller = SETTINGS[name]
    config = Config.fromfile(RECIPES / f'{recipe}.py')
    config.merge_from_dict({'model.backbone': smaller})
    return MODELS.build(config.model).double(), config


def build(name: str, folder: Path) -> tuple[A2MIM, Config]:
    """That model with the published weights."""
    model, config = fresh(name)
    shapes = CASES[name]['shapes']
    published = {key: torch.from_numpy(fill(key, shapes[key], 1)) for key in shapes}
    state = through_the_importer(published, folder)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith('num_batches_tracked') for key in missing)
    return model, config


def loss_of(model: A2MIM, name: str, *, full: bool = True) -> torch.Tensor:
    """The loss of the case; ``full`` decodes whole images, as nothing says how much is masked."""
    case = CASES[name]
    x = image('whole/img', tuple(case['img_shape']), case['seed']).double()
    mask = torch.tensor(case['mask'], dtype=torch.float64)
    counted = {} if full else dict(num_masked=count_masked(mask))
    return sum(model(image=x, mask=mask, mode='loss', **counted).values())


# At 64 pixels a position of the ResNet covers four blocks: it needs whole images.
FORMS = [(name, full) for name in CASES for full in (True, False) if full or 'r50' not in name]


@pytest.mark.parametrize('name, full', FORMS)
def test_loss_and_gradient_norm_equal_the_published_ones(name, full, tmp_path, monkeypatch):
    model, _ = build(name, tmp_path)
    if not full:
        monkeypatch.setattr(model, 'decode', None)  # not needed
    loss = loss_of(model.train(), name, full=full)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert loss.item() == pytest.approx(CASES[name]['loss_train'], rel=1e-7)
    assert norm.item() == pytest.approx(CASES[name]['total_grad_norm'], rel=1e-7)


@pytest.mark.parametrize('name', CASES)
def test_a_released_file_gives_the_published_loss_as_it_is(name, tmp_path):
    shapes = CASES[name]['shapes']
    published = {key: torch.from_numpy(fill(key, shapes[key], 1)) for key in shapes}
    content = load_file(write_released(published, tmp_path / 'a_full.pth'))
    model, _ = fresh(name)
    runner = SimpleNamespace(model=model, _resume=False, _train_loop=None, _load_from='a_full.pth')
    FitWeightsHook().after_load_checkpoint(runner, content)  # what load_from comes to
    model.load_state_dict(content['state_dict'], strict=False)
    loss = loss_of(model.train(), name).item()
    assert loss == pytest.approx(CASES[name]['loss_train'], rel=1e-7)


@pytest.mark.parametrize('name', CASES)
def test_loss_in_evaluation_mode_equals_the_published_one(name, tmp_path):
    model, _ = build(name, tmp_path)
    assert loss_of(model.eval(), name).item() == pytest.approx(CASES[name]['loss_eval'], rel=1e-7)


@pytest.mark.integration
@pytest.mark.parametrize('name', CASES)
def test_three_optimiser_steps_follow_the_published_losses(name, tmp_path):
    model, config = build(name, tmp_path)
    wrapper = dict(config.optim_wrapper, type='OptimWrapper')
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.pop('constructor'))
    wrapper['accumulative_counts'] = 1
    optimiser = constructor(wrapper, wrapper.pop('paramwise_cfg', None))(model)
    losses = []
    for _ in range(3):
        losses.append(loss_of(model.train(), name))
        optimiser.update_params(losses[-1])
    losses.append(loss_of(model, name))
    values = [loss.item() for loss in losses]
    assert values == pytest.approx(CASES[name]['adamw_losses'], rel=1e-7)
