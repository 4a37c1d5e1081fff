"""Learning rates and weight decays of segmentors, against MMSegmentation's own rules for them."""

import re

import pytest
import torch
from mmengine import Config
from torch import nn

import a2mim.transfer  # noqa: F401  finds the configs of MMSegmentation
from a2mim.registry import OPTIM_WRAPPER_CONSTRUCTORS
from shrunk_segmentor import CONFIGS, HEADS

pytestmark = [pytest.mark.transfer, pytest.mark.filterwarnings('default')]
VIT = [
    ('vit-base-p16_upernet_8xb2-160k_ade20k-512x512', 4e-4, 0.65),
    ('vit-base-p16_upernet_8xb2-160k_ade20k-640x640', 3e-5, 0.9),
    ('mae-base_upernet_8xb2-amp-160k_ade20k-512x512', 1e-4, 0.65),
]
CONVNEXT = 'convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512'


def groups_of(name: str) -> tuple[nn.Module, dict[str, tuple[float, float]]]:
    """The segmentor of a config, and learning rate and weight decay of each parameter."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.model.backbone.init_cfg = None
    for head in HEADS:
        cfg.model[head].channels = 8
    from mmseg.registry import MODELS as SEGMENTORS
    from mmseg.utils import register_all_modules

    register_all_modules()
    with torch.device('meta'):  # names and shapes are all that is needed
        model = SEGMENTORS.build(cfg.model)
    wrapper = cfg.optim_wrapper
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.constructor)(
        {key: wrapper[key] for key in ('type', 'optimizer')}, wrapper.paramwise_cfg
    )
    groups = {
        parameter: (group['lr'], group['weight_decay'])
        for group in constructor.param_groups(model)
        for parameter, _ in group['params']
    }
    assert groups.keys() == dict(model.named_parameters()).keys()
    return model, groups


def check_weight_decays(model: nn.Module, groups: dict[str, tuple[float, float]]) -> None:
    """No vector decays, nor do the class token and the absolute positions; all else does."""
    for name, parameter in model.named_parameters():
        spared = parameter.ndim == 1 or name.endswith(('bias', 'cls_token', 'pos_embed'))
        assert groups[name][1] == (0.0 if spared else 0.05), name


@pytest.mark.parametrize(('name', 'base', 'decay'), VIT)
def test_a_vit_learns_slower_from_block_to_block(name, base, decay):
    from mmseg.engine.optimizers.layer_decay_optimizer_constructor import get_layer_id_for_vit

    model, groups = groups_of(name)
    check_weight_decays(model, groups)
    layers = 12 + 2
    for parameter, (lr, _) in groups.items():
        theirs = parameter.replace('backbone.model.', 'backbone.').replace('.blocks.', '.layers.')
        layer = get_layer_id_for_vit(theirs, layers)
        assert lr == pytest.approx(base * decay ** (layers - layer - 1)), parameter
    assert len({lr for lr, _ in groups.values()}) == layers


def test_convnext_learns_slower_from_stage_to_stage():
    from mmseg.engine.optimizers.layer_decay_optimizer_constructor import (
        get_stage_id_for_convnext,
    )

    model, groups = groups_of(CONVNEXT)
    check_weight_decays(model, groups)
    layers = 6 + 2
    for parameter, (lr, _) in groups.items():
        # There all that shrinks maps, the stem included, is in a list of its own.
        theirs = re.sub(
            r'^backbone\.model\.(stem|stages\.\d\.downsample)\.',
            'backbone.downsample_layers.',
            parameter,
        ).replace('backbone.model.', 'backbone.')
        layer = get_stage_id_for_convnext(theirs, layers)
        assert lr == pytest.approx(1e-4 * 0.9 ** (layers - layer - 1)), parameter
    assert len({lr for lr, _ in groups.values()}) == 6
