"""What the configs for MMDetection and MMSegmentation set, as flat facts, and their golden files.

python tests/transfer_facts.py     writes them in tests/data/recipes/ anew; review what changes
"""

import json
from pathlib import Path

from config_schema import read
from recipe_facts import flat, write_family

ROOT = Path(__file__).parents[1]
CONFIGS = {
    'detection': sorted((ROOT / 'det_mmdetection/configs/coco').glob('*.py')),
    'segmentation': sorted((ROOT / 'seg_mmsegmentation/configs/ade20k').glob('*.py')),
}
SCHEMAS = {
    'detection': ROOT / 'tests/det_mmdetection/mmdet_schema.json',
    'segmentation': ROOT / 'tests/seg_mmsegmentation/mmseg_schema.json',
}
SECTIONS = (
    'custom_imports',
    'model',
    'train_dataloader',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'auto_scale_lr',
)


def schema_of(family: str) -> dict:
    """What is kept of the package that the configs inherit from."""
    return json.loads(SCHEMAS[family].read_text(encoding='utf-8'))


def transfer_facts(path: Path, schema: dict) -> dict[str, object]:
    """What a config sets, but for hooks, and the types that it inherits."""
    config = read(path, schema)
    known = flat({key: config[key] for key in SECTIONS if key in config})
    return json.loads(json.dumps({key: value for key, value in known if value is not None}))


def command_of(path: Path) -> str:
    """The command in the docstring of a config, in one line."""
    docstring = ' '.join(path.read_text(encoding='utf-8').split('"""')[1].split())
    return docstring.split('Run: ')[1].replace('\\ ', '')


if __name__ == '__main__':
    for family, paths in CONFIGS.items():
        schema = schema_of(family)
        write_family(family, {path.stem: transfer_facts(path, schema) for path in paths})
