"""The configs and the head for Detectron2, which is not installed: values, and a stand-in."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from torch import nn

from toy_run import ROOT, load_tool

FOLDER = ROOT / 'det_mmdetection/detectron2'
CONFIGS = sorted((FOLDER / 'configs').glob('coco_*.yaml'))


def read(path: Path) -> dict[str, object]:
    """A config with its bases, as dotted names."""
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    base = content.pop('_BASE_', None)
    return {**(read(path.parent / base) if base else {}), **flat(content)}


def flat(node: dict, prefix: str = '') -> dict[str, object]:
    found = {}
    for key, value in node.items():
        inner = isinstance(value, dict)
        found |= flat(value, f'{prefix}{key}.') if inner else {f'{prefix}{key}': value}
    return found


def test_the_twelve_published_configs_are_there():
    names = {f'coco_R_50_{model}_{schedule}{style}' for model in ('C4', 'FPN', 'RetinaNet')
             for schedule in ('1x', '2x') for style in ('', '_moco')}  # fmt: skip
    assert {path.stem for path in CONFIGS} == names


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_has_the_published_values(path):
    config, name = read(path), path.stem
    times = 2 if '_2x' in name else 1
    assert config['SOLVER.MAX_ITER'] == 90000 * times
    assert config['SOLVER.STEPS'] == [60000 * times, 80000 * times]
    assert config['SOLVER.IMS_PER_BATCH'] == 16
    assert config['SOLVER.BASE_LR'] == (0.01 if 'RetinaNet' in name else 0.02)
    assert config['MODEL.RESNETS.NORM'] == 'SyncBN'
    assert config['MODEL.BACKBONE.FREEZE_AT'] == 0
    assert config['TEST.PRECISE_BN.ENABLED'] is True
    assert config['INPUT.MIN_SIZE_TRAIN'] == [640, 672, 704, 736, 768, 800]
    assert ('MODEL.FPN.NORM' in config) is ('C4' not in name)
    style = ('INPUT.FORMAT', 'MODEL.RESNETS.STRIDE_IN_1X1', 'MODEL.PIXEL_MEAN', 'MODEL.WEIGHTS')
    values = [config.get(key) for key in style]
    if name.endswith('_moco'):
        assert values == ['RGB', False, [123.675, 116.28, 103.53], 'PRETRAIN']
    else:
        assert values == [None, None, None, 'detectron2://ImageNetPretrained/MSRA/R-50.pkl']
    size = 1200 if 'C4' in name and name.endswith('_moco') else None
    assert config.get('INPUT.MAX_SIZE_TRAIN') == size


def test_the_parts_of_the_three_detectors():
    c4, fpn, retina = (
        read(FOLDER / f'configs/coco_R_50_{name}_1x.yaml') for name in ('C4', 'FPN', 'RetinaNet')
    )
    assert c4['MODEL.ROI_HEADS.NAME'] == 'Res5ROIHeadsExtraNorm'
    assert (c4['MODEL.RPN.PRE_NMS_TOPK_TEST'], c4['MODEL.RPN.POST_NMS_TOPK_TEST']) == (6000, 1000)
    assert (fpn['MODEL.RPN.PRE_NMS_TOPK_TRAIN'], fpn['MODEL.RPN.PRE_NMS_TOPK_TEST']) == (2000, 1000)
    assert fpn['MODEL.ANCHOR_GENERATOR.SIZES'] == [[32], [64], [128], [256], [512]]
    sizes = retina['MODEL.ANCHOR_GENERATOR.SIZES']
    expected = [[32 * 2 ** (level + k / 3) for k in range(3)] for level in range(5)]
    assert [size for level in sizes for size in level] == pytest.approx(
        [size for level in expected for size in level], rel=1e-5
    )
    assert retina['MODEL.RETINANET.IOU_THRESHOLDS'] == [0.4, 0.5]
    assert retina['MODEL.RETINANET.SMOOTH_L1_LOSS_BETA'] == 0.0


class Heads:
    """Stands for Detectron2's ``Res5ROIHeads``."""

    @classmethod
    def _build_res5_block(cls, cfg: object) -> tuple[nn.Sequential, int]:
        return nn.Sequential(nn.Conv2d(4, 8, 1)), 8


def test_the_head_of_c4_ends_with_a_norm(monkeypatch):
    class Registry(dict):
        def register(self):
            return lambda kind: self.setdefault(kind.__name__, kind)

    registry = Registry()
    for name, content in {
        'detectron2': {},
        'detectron2.config': dict(CfgNode=object),
        'detectron2.layers': dict(get_norm=lambda norm, channels: getattr(nn, norm)(channels)),
        'detectron2.modeling': {},
        'detectron2.modeling.roi_heads': dict(ROI_HEADS_REGISTRY=registry, Res5ROIHeads=Heads),
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    load_tool('extra_norm_head', 'det_mmdetection/detectron2')

    class Config:
        class MODEL:
            class RESNETS:
                NORM = 'BatchNorm2d'

    stage, channels = registry['Res5ROIHeadsExtraNorm']._build_res5_block(Config)
    assert channels == stage.norm.num_features == 8
    assert [name for name, _ in stage.named_children()] == ['0', 'norm']


def test_without_detectron2_one_line_says_so(capsys):
    with pytest.raises(SystemExit) as exit_info:
        load_tool('train_net', 'det_mmdetection/detectron2').main(['a.yaml', 'b.pkl', 'out'])
    assert exit_info.value.code == 2
    assert 'install Detectron2' in capsys.readouterr().err
