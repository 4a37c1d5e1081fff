"""The wrapped timm models compute what the backbones of the reference implementation compute.

The weights are written under published names and imported by the tool, like a released file.
"""

import copy
import json
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import Tensor

from a2mim.models.timm_backbone import TimmBackbone
from formulas import block_mask, fill, image, sample_index, u
from released_file import through_the_importer

DATA = Path(__file__).parents[2] / 'data' / 'backbones'
PINNED = json.loads((DATA / 'parity.json').read_text(encoding='utf-8'))
NUMBERS = np.load(DATA / 'parity.npz')


def resnet(config: dict) -> dict:
    layer = config['mask_layer']
    return dict(
        model_name=f'resnet{config["depth"]}', mask_after=f'layer{layer}' if layer else 'maxpool'
    )


def convnext(config: dict) -> dict:
    layer, arch = config['mask_layer'], config['arch']
    sizes = {} if arch == 'tiny' else dict(depths=arch['depths'], dims=arch['channels'])
    place = f'stages.{layer}.downsample' if layer else 'stem'
    return dict(model_name='convnext_tiny', mask_after=place, **sizes)


def vit(config: dict) -> dict:
    layer, arch = config['mask_layer'], config['arch']
    beit = dict(
        model_name='beit_base_patch16_224',
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=config['init_values'],
    )
    return dict(
        **(beit if config['use_window'] else dict(model_name='vit_base_patch16_224')),
        mask_after=f'blocks.{layer - 2}' if layer > 1 else 'patch_embed',
        img_size=config['img_size'],
        patch_size=config['patch_size'],
        embed_dim=arch['embed_dims'],
        depth=arch['num_layers'],
        num_heads=arch['num_heads'],
        mlp_ratio=arch['feedforward_channels'] / arch['embed_dims'],
    )


TRANSLATE = {'MIMResNet': resnet, 'MIMConvNeXt': convnext, 'SimMIMViT': vit}


def mask_token(config: dict) -> dict:
    if config['replace']:
        return dict(mode='replace')
    return dict(gamma_init=config.get('mask_init'), detach=config.get('detach', False))


@lru_cache(maxsize=1)
def published_trunk(name: str) -> dict[str, Tensor]:
    shapes = PINNED['states'][name].items()
    keys = {f'backbone.{key}': shape for key, shape in shapes}
    return {key: torch.from_numpy(fill(key, tuple(shape), 1)) for key, shape in keys.items()}


@lru_cache(maxsize=1)  # the modes of a case are tested one after the other
def built(key: str) -> TimmBackbone:
    case = next(case for case in PINNED['cases'] if case['key'] == key)
    config = case['config']
    backbone = TimmBackbone(**TRANSLATE[case['cls']](config), mask_token=mask_token(config))
    state = dict(published_trunk(case['state']))
    for name, shape in case['mask_state'].items():
        if name not in case['kept_at_init']:
            state[f'backbone.{name}'] = torch.from_numpy(fill(f'backbone.{name}', tuple(shape), 1))
    with TemporaryDirectory() as folder:
        imported = through_the_importer(state, Path(folder))
    state = {key.removeprefix('backbone.'): value for key, value in imported.items()}
    missing, unexpected = backbone.load_state_dict(state, strict=False)
    assert not unexpected
    kept = {f'mask_token.{name[len("mask_") :]}' for name in case['kept_at_init']}
    assert {key for key in missing if not key.endswith('num_batches_tracked')} == kept
    return backbone.double()


def assert_pinned(name: str, value: Tensor) -> None:
    """Compare with the pinned statistics and samples of a large array."""
    flat = value.detach().flatten().numpy()
    stats = [flat.mean(), flat.std(), flat.min(), flat.max(), np.linalg.norm(flat), flat.size]
    scale = np.abs(flat).max()
    np.testing.assert_allclose(stats, NUMBERS[f'{name}/stats'], rtol=1e-7, atol=1e-10 * scale)
    samples = NUMBERS[f'{name}/val']
    index = sample_index(flat.size, samples.size)
    np.testing.assert_allclose(flat[index], samples, rtol=1e-7, atol=1e-10 * scale)


@pytest.mark.parametrize(
    'case, mode',
    [
        pytest.param(case, mode, id=f'{case["key"]}-{mode}')
        for case in PINNED['cases']
        for mode in case['modes']  # without BatchNorm both modes are one
    ],
)
def test_backbone_equals_the_published_one(case, mode, our_names):
    name, seed = f'{case["key"]}/{mode}', case['seed']
    backbone = copy.deepcopy(built(case['key'])).train(mode == 'train')
    pixels = image('backbone/img', case['image_shape'], seed).double().requires_grad_()
    mask = block_mask('backbone/mask', case['mask_shape'], 0.6, seed)

    output = backbone(pixels, mask)
    loss = (output * torch.from_numpy(u('probe', output.numel(), seed)).view_as(output)).mean()
    loss.backward()

    assert loss.item() == pytest.approx(case['probe_loss'][mode], rel=1e-7)
    assert_pinned(f'{name}/out', output)
    assert_pinned(f'{name}/grad_input', pixels.grad)
    for own, published in (('token', 'mask_token'), ('gamma', 'mask_gamma')):
        if f'{name}/grad_{published}/val' in NUMBERS:
            assert_pinned(f'{name}/grad_{published}', getattr(backbone.mask_token, own).grad)
    buffers = [f for f in NUMBERS if f.startswith(f'{name}/buffer_') and f.endswith('/val')]
    for file in buffers:
        key = file.removesuffix('/val')
        assert_pinned(key, backbone.model.get_buffer(key.split('/buffer_')[1]))
    assert (mode == 'train') == bool(buffers)
    own = our_names([*PINNED['states'][case['state']], *case['mask_state']])
    parameters = dict(backbone.named_parameters())
    trained = sorted(key for key in own if own[key] in parameters)
    norms = [parameters[own[key]].grad.norm().item() for key in trained]
    pinned = NUMBERS[f'{name}/param_grad_norms']
    np.testing.assert_allclose(norms, pinned, rtol=1e-7, atol=1e-12)


def masked_output(backbone: TimmBackbone, key: str) -> Tensor:
    case = next(case for case in PINNED['cases'] if case['key'] == key)
    pixels = image('backbone/img', case['image_shape'], case['seed']).double()
    mask = block_mask('backbone/mask', case['mask_shape'], 0.6, case['seed'])
    with torch.no_grad():
        return backbone.double().eval()(pixels, mask)


def rebuilt(key: str, **options: object) -> TimmBackbone:
    """The backbone of a case with other options, and random weights."""
    case = next(case for case in PINNED['cases'] if case['key'] == key)
    config = case['config']
    translated = TRANSLATE[case['cls']](config)
    return TimmBackbone(**translated, mask_token=mask_token(config), **options)


@pytest.mark.parametrize('key', ['convnext_small_l3_gamma', 'convnext_small_l0_replace'])
def test_convnext_without_layer_scale_is_the_published_one_with_the_scale_in_its_weights(key):
    bare = rebuilt(key, ls_init_value=None)
    state = built(key).state_dict()
    for name in [name for name in state if '.blocks.' in name and name.endswith('.gamma')]:
        scale, layer = state.pop(name), name.replace('gamma', 'mlp.fc2')
        state[f'{layer}.bias'] = state[f'{layer}.bias'] * scale
        state[f'{layer}.weight'] = state[f'{layer}.weight'] * scale[:, None]
    bare.double().load_state_dict(state)  # strictly: no layer scale is left
    assert_pinned(f'{key}/eval/out', masked_output(bare, key))


@pytest.mark.parametrize(
    'key', ['simmimvit_l0_nowin_residual', 'simmimvit_l0_win_iv.1_replace', 'convnext_t_l3_gamma']
)
def test_the_final_norm_is_all_that_final_norm_leaves_out(key):
    bare = rebuilt(key, final_norm=False)
    state = built(key).state_dict()
    norm = next(name for name in ('norm', 'head.norm') if f'model.{name}.weight' in state)
    scale, shift = (state.pop(f'model.{norm}.{name}') for name in ('weight', 'bias'))
    bare.double().load_state_dict(state)  # strictly: no norm is left
    output = masked_output(bare, key).movedim(1, -1)
    normed = torch.nn.functional.layer_norm(output, scale.shape, scale, shift, 1e-6)
    assert_pinned(f'{key}/eval/out', normed.movedim(-1, 1))
