"""Costs of models against published figures."""

from pathlib import Path

import pytest

from a2mim.analysis.model_costs import count_macs, count_parameters, open_model
from small_models import pretraining
from toy_run import load_tool, toy_config

CONFIGS = Path(__file__).parents[2] / 'configs' / 'openmixup'

# At 224 pixels, millions of parameters and 10⁹ multiply-accumulates.
PUBLISHED = {
    'resnet50': (25.6, 4.1),  # ConvNeXt's and torchvision's tables
    'resnet101': (44.5, 7.8),  # torchvision's table
    'vit_base_patch16_224': (86.6, 17.6),  # DeiT, ICML 2021, and Swin, ICCV 2021, tables 1
    'deit_small_patch16_224': (22.05, 4.6),  # DeiT, and Swin, table 1
    'swin_tiny_patch4_window7_224': (28.3, 4.5),  # Swin, ICCV 2021, table 1
    'convnext_tiny': (28.6, 4.5),  # ConvNeXt, CVPR 2022, table 1
    'convnext_small': (50.2, 8.7),  # ConvNeXt, CVPR 2022, table 1
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_costs_are_the_published_ones(name: str) -> None:
    parameters, macs = PUBLISHED[name]
    model = open_model(name)
    assert count_parameters(model).total / 1e6 == pytest.approx(parameters, rel=0.02)
    assert count_macs(model, (224, 224)) / 1e9 == pytest.approx(macs, rel=0.02)


def test_the_vit_small_of_the_paper() -> None:
    name = 'vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep100'
    model = open_model(str(CONFIGS / 'finetune' / 'imagenet' / f'{name}.py'))
    assert count_parameters(model).total == 48_825_832  # the 48.8 M of the published tables
    # By hand: width 768, depth 8, MLP 3 times as wide, 196 patches and a class token.
    tokens, width, depth = 197, 768, 8
    block = (4 + 2 * 3) * tokens * width**2 + 2 * tokens**2 * width
    by_hand = 196 * 3 * 16**2 * width + depth * block + 1000 * width
    assert count_macs(model) == pytest.approx(by_hand, rel=1e-6)


def test_a_pre_training_counts_its_decoder(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path)
    cfg.model = pretraining().model
    cfg.dump(tmp_path / 'toy.py')
    model = open_model(str(tmp_path / 'toy.py'))
    width, stride = model.backbone.out_channels, model.backbone.stride
    decoder = width * 3 * stride**2 * (224 // stride) ** 2  # one linear map a position
    whole = count_macs(model, (224, 224))
    trunk = count_macs(open_model('test_convnext'), (224, 224))
    assert whole - decoder == trunk - 64 * 1000  # timm's has a classifier
    count = count_parameters(model)
    assert count.total > count.backbone == count.backbone_trainable


def test_a_linear_probe_trains_its_head_only(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, model__frozen_trunk=True)
    cfg.dump(tmp_path / 'toy.py')
    count = count_parameters(open_model(str(tmp_path / 'toy.py')))
    assert count.backbone_trainable == 0
    assert count.total_trainable == count.total - count.backbone == 64 * 3 + 3


def test_the_tools_print(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    toy_config(tmp_path).dump(tmp_path / 'toy.py')
    load_tool('analysis_tools/count_parameters').main(['resnet50'])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(': ')[1] for line in lines] == ['23.508 M'] * 2 + ['25.557 M'] * 2
    load_tool('analysis_tools/get_flops').main(['resnet50', '--shape', '224'])
    out = capsys.readouterr().out
    assert '"FLOPs"): 4.089 G' in out and 'operations: 8.178 G' in out
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.5']
    load_tool('analysis_tools/print_config').main([str(tmp_path / 'toy.py'), *options])
    assert 'lr=0.5' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('tool', 'args', 'message'),
    [
        ('get_flops', ['deit_small_patch16_224', '--shape', '100'], 'images of 100×100 pixels'),
        ('get_flops', ['resnet50', '--shape', '0'], '--shape 0: give one side or H W'),
        ('get_flops', ['resnetfifty'], 'neither a config (.py) nor a timm model'),
        ('count_parameters', ['missing.py'], 'missing.py does not exist'),
        ('print_config', ['missing.py'], 'missing.py'),
    ],
)
def test_bad_input_is_one_line(
    tool: str, args: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match='2'):
        load_tool(f'analysis_tools/{tool}').main(args)
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
