"""Positions reach another image size in the families that have them; real forward passes."""

import pytest
import timm
import torch
from torch import Tensor, nn

from a2mim.weights.fit import SHARED, TABLE, fit_positions

# timm's interpolation indexes with a list.
pytestmark = pytest.mark.filterwarnings('ignore:.*(bucketize|searchsorted|non-tuple)')

SMALL = dict(num_classes=3, embed_dim=32, depth=2, num_heads=2)
BEIT = dict(SMALL, use_abs_pos_emb=True, use_rel_pos_bias=True)
SWIN = dict(num_classes=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2))
# Name, options, and what makes a model of 192 and of 224 pixels.
CASES = {
    'beit': ('beit_base_patch16_224', BEIT, dict(img_size=192), dict(img_size=224)),
    'vit': ('vit_base_patch16_224', SMALL, dict(img_size=192), dict(img_size=224)),
    'swin': (
        'swin_tiny_patch4_window7_224',
        SWIN,
        dict(img_size=192, window_size=6),
        dict(img_size=224, window_size=7),
    ),
}


def is_position(key: str) -> bool:
    return key == 'pos_embed' or key.endswith(TABLE)


def make_uniform(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One value for all patches in embeddings and tables; class token and extra rows random."""
    generator = torch.Generator().manual_seed(0)
    for key in filter(is_position, state):
        tensor = state[key]
        width = tensor.shape[-1]
        if key == 'pos_embed':
            tensor[:, :1] = torch.rand(width, generator=generator)
            tensor[:, 1:] = torch.rand(width, generator=generator)
        else:
            tensor[:] = torch.rand(width, generator=generator)
            if round(len(tensor) ** 0.5) ** 2 != len(tensor):  # BEiT's three extra rows
                tensor[-3:] = torch.rand(3, width, generator=generator)
    return state


@pytest.mark.parametrize('name, options, small, large', CASES.values(), ids=CASES)
def test_uniform_positions_of_192_pixels_give_the_same_model_at_224(name, options, small, large):
    source = timm.create_model(name, **options, **small)
    state = make_uniform(source.state_dict())
    target = timm.create_model(name, **options, **large).eval()
    by_hand = timm.create_model(name, **options, **large).eval()
    target.load_state_dict(fit_positions(state, target))
    others = {key: value for key, value in state.items() if not is_position(key)}
    by_hand.load_state_dict({**make_uniform(by_hand.state_dict()), **others})
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        output = target(image)
        torch.testing.assert_close(output, by_hand(image), rtol=1e-4, atol=1e-5)
    assert output.std() > 0


@pytest.mark.parametrize('name, options, small, large', CASES.values(), ids=CASES)
def test_positions_keep_their_order_along_rows_and_columns(name, options, small, large):
    source, target = (timm.create_model(name, **options, **size) for size in (small, large))
    state = source.state_dict()
    for key in filter(is_position, state):
        extra = 1 if key == 'pos_embed' else 3 * (name[:4] == 'beit')
        grid = as_grid(key, state[key], extra)
        ramp = torch.linspace(-1, 1, grid.shape[0])
        grid[...] = (ramp.view(-1, 1, 1) + 3 * ramp.view(1, -1, 1)).expand_as(grid)
    fitted = fit_positions(state, target)
    positions = [key for key in fitted if is_position(key)]
    assert positions
    for key in positions:
        extra = 1 if key == 'pos_embed' else 3 * (name[:4] == 'beit')
        grid = as_grid(key, fitted[key], extra)
        assert grid.shape[0] > as_grid(key, state[key], extra).shape[0]
        rows, columns = grid.diff(dim=0), grid.diff(dim=1)
        assert (rows > 0).all() and (columns > 0).all()
        assert columns.mean() > 2 * rows.mean()  # not transposed


def as_grid(key: str, tensor: Tensor, extra: int) -> Tensor:
    """A view (rows, columns, C) of embeddings or of a table, without class token and extra rows."""
    flat = tensor[0, extra:] if key == 'pos_embed' else tensor[: len(tensor) - extra]
    side = round(len(flat) ** 0.5)
    return flat.view(side, side, -1)


def test_extra_rows_of_a_table_stay_as_they_are():
    source, target = (
        timm.create_model('beit_base_patch16_224', **BEIT, img_size=size) for size in (192, 224)
    )
    state = source.state_dict()
    key = f'blocks.1.attn.{TABLE}'
    state[key].copy_(torch.rand_like(state[key]))
    fitted = fit_positions(state, target)
    assert (len(state[key]), len(fitted[key])) == (532, 732)
    assert torch.equal(fitted[key][-3:], state[key][-3:])


def shared_beit(shared: bool) -> nn.Module:
    tables = dict(use_rel_pos_bias=not shared, use_shared_rel_pos_bias=shared)
    options = {**SMALL, 'use_abs_pos_emb': False, **tables}
    return timm.create_model('beit_base_patch16_224', **options, img_size=64).eval()


def test_a_shared_table_becomes_the_table_of_every_block():
    source, target = shared_beit(True), shared_beit(False)
    nn.init.normal_(source.rel_pos_bias.relative_position_bias_table)
    target.load_state_dict(fit_positions(source.state_dict(), target))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(target(image), source(image))


def test_a_model_that_shares_keeps_the_shared_table():
    state = shared_beit(True).state_dict()
    assert SHARED in fit_positions(state, shared_beit(True))
