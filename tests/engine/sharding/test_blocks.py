"""Which modules of a timm model are sharded one by one."""

import pytest
import timm
from torch import nn

from a2mim.engine.sharding import repeated_blocks


@pytest.mark.parametrize(
    'name, options, blocks',
    [
        ('test_vit', {}, [f'blocks.{i}' for i in range(6)]),
        (
            'beit_base_patch16_224',
            dict(embed_dim=32, num_heads=2, depth=2),
            ['blocks.0', 'blocks.1'],
        ),
        ('resnet18', {}, [f'layer{i}.{j}' for i in (1, 2, 3, 4) for j in (0, 1)]),
        (
            'convnext_atto',
            dict(depths=(1, 2, 1, 2)),
            ['stages.0', *(f'stages.{i}.blocks.{j}' for i in (1, 3) for j in (0, 1)), 'stages.2'],
        ),
        (
            'swin_tiny_patch4_window7_224',
            dict(embed_dim=24, depths=(2, 2), num_heads=(2, 2)),
            [f'layers.{i}.blocks.{j}' for i in (0, 1) for j in (0, 1)],
        ),
    ],
)
def test_the_blocks_of_a_family_are_found(name, options, blocks):
    model = nn.ModuleDict(dict(backbone=timm.create_model(name, **options), head=nn.Linear(2, 2)))
    names = {module: name.removeprefix('backbone.') for name, module in model.named_modules()}
    assert sorted(names[block] for block in repeated_blocks(model)) == sorted(blocks)


def test_a_list_is_never_a_block_itself():
    model = timm.create_model('mobilenetv3_small_050')
    assert not any(isinstance(b, nn.Sequential | nn.ModuleList) for b in repeated_blocks(model))


def test_layers_without_parameters_are_no_blocks():
    assert (
        repeated_blocks(nn.Sequential(nn.Sequential(nn.ReLU(), nn.ReLU()), nn.Linear(1, 1))) == []
    )
