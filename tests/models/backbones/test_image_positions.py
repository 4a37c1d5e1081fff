"""Positions of BEiT for other images: what is replaced, for one pass."""

import pytest
import torch
from timm.models.beit import gen_relative_position_index

from a2mim.models.multi_scale import ImagePositions, distance_index
from a2mim.models.timm_backbone import TimmBackbone

BEIT = dict(
    model_name='beit_base_patch16_224',
    embed_dim=32,
    depth=2,
    num_heads=2,
    use_abs_pos_emb=True,
    use_rel_pos_bias=True,
    img_size=64,
    out_indices=(0, 1),
)


@pytest.mark.parametrize('grid', [(4, 4), (3, 5)])
def test_the_index_of_its_own_grid_is_that_of_timm(grid):
    assert torch.equal(distance_index(grid, grid), gen_relative_position_index(grid))


@pytest.mark.parametrize('grid', [(2, 3), (6, 4), (1, 9)])
def test_a_known_distance_keeps_its_row_and_a_longer_one_takes_the_last(grid):
    own = (4, 5)
    index, (rows, columns) = distance_index(own, grid), grid
    assert index.shape == (1 + rows * columns,) * 2
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    for i, (row, column) in enumerate(cells):
        for j, (other_row, other_column) in enumerate(cells):
            down = max(-3, min(3, row - other_row))
            right = max(-4, min(4, column - other_column))
            assert index[1 + i, 1 + j] == (down + 3) * 9 + right + 4
    assert index[0, 1:].eq(63).all()
    assert index[1:, 0].eq(64).all()
    assert index[0, 0] == 65


def test_a_smaller_image_is_attended_to_with_the_biases_of_its_distances():
    backbone = TimmBackbone(**BEIT)
    attention = backbone.model.blocks[0].attn
    torch.nn.init.normal_(attention.relative_position_bias_table)
    large = attention._get_rel_pos_bias()
    positions = ImagePositions(backbone.model)
    replaced = positions.at((2, 3))
    with positions.windows((2, 3)):
        attention.relative_position_index = replaced['blocks.0.attn.relative_position_index']
        small = attention._get_rel_pos_bias()
    # Rows 0 and 1, columns 0 to 2 of the 4×4 patches, and the class token.
    kept = torch.tensor([0, 1, 2, 3, 5, 6, 7])
    assert torch.equal(small, large[:, :, kept][..., kept])


def test_the_embedding_is_interpolated_and_the_class_token_stays():
    model = TimmBackbone(**BEIT).model
    slope = torch.arange(4.0).repeat_interleave(4)[None, :, None].expand(1, 16, 32)
    model.pos_embed.data[:, 1:] = slope
    resized = ImagePositions(model).at((8, 4))['pos_embed']
    assert torch.equal(resized[:, 0], model.pos_embed[:, 0])
    rows = resized[0, 1:].view(8, 4, 32)
    torch.testing.assert_close(rows, rows[:, :1, :1].expand_as(rows))
    assert rows[:, 0, 0].diff().gt(0).all()


def test_its_own_grid_needs_nothing():
    assert ImagePositions(TimmBackbone(**BEIT).model).at((4, 4)) == {}


def test_tables_learn_from_an_image_of_another_size():
    backbone = TimmBackbone(**BEIT)
    backbone(torch.randn(1, 3, 32, 48))[-1].sum().backward()
    assert backbone.model.blocks[0].attn.relative_position_bias_table.grad.any()
    assert backbone.model.pos_embed.grad.any()


def test_checkpointing_with_tables_for_another_size_is_refused_in_training_only():
    backbone = TimmBackbone(**BEIT, grad_checkpointing=True)
    image = torch.randn(1, 3, 32, 48)
    with pytest.raises(ValueError, match=r'4×4 patches, the image has 2×3, and grad_checkpoint'):
        backbone(image)
    with torch.no_grad():
        assert backbone(image)[0].shape == (1, 32, 2, 3)
