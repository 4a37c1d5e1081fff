"""A study of seconds: one ViT with a single block, two starts, two labels per digit."""

from pathlib import Path

import yaml

from a2mim.study.matrix import Study, read_study
from toy_run import ROOT

DIGITS = ROOT / 'configs/study/digits'
PRETRAIN = """_base_ = ['{base}']

model = dict(
    backbone=dict(embed_dim=16, depth=1, num_heads=2, mask_after='blocks.0'),
)
train_cfg = dict(max_epochs=2)
param_scheduler = dict(warmup=1)
default_hooks = dict(checkpoint=dict(interval=1))
"""
FINETUNE = """_base_ = ['{base}']

model = dict(backbone=dict(embed_dim=16, depth=1, num_heads=2))
train_cfg = dict(max_epochs=6, val_begin=7)
param_scheduler = dict(warmup=2)
default_hooks = dict(checkpoint=dict(interval=2))
"""
MATRIX = dict(
    networks={'vit': dict(pretrain='pretrain.py', finetune='finetune.py', stem='patch_embed')},
    starts={'scratch': None, 'a2mim': {}},
    labels={2: {}},
    seeds=[0],
    rates=[1e-3, 3e-3],
    rate_seeds=[9],
)


def tiny_study(folder: Path, **changes: object) -> Study:
    """Write configs and matrix, with entries of the matrix replaced, and read them."""
    folder.mkdir(exist_ok=True)
    for name, text in (('pretrain', PRETRAIN), ('finetune', FINETUNE)):
        kind = 'a2mim' if name == 'pretrain' else 'finetune'
        base = next(DIGITS.glob(f'{kind}_vit-4x128_*.py'))
        (folder / f'{name}.py').write_text(text.format(base=base), encoding='utf-8')
    matrix = folder / 'matrix.yml'
    matrix.write_text(yaml.safe_dump({**MATRIX, **changes}, sort_keys=False), encoding='utf-8')
    return read_study(folder)
