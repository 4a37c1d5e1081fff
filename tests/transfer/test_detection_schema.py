"""The schema that the suite without MMDetection checks configs by is that of MMDetection."""

import json
from pathlib import Path

import pytest

from schema_writer import schema_of
from shrunk_detector import CONFIGS, ROOT

pytestmark = [pytest.mark.transfer, pytest.mark.filterwarnings('default')]
SCHEMA = ROOT / 'tests/det_mmdetection/mmdet_schema.json'


@pytest.fixture(scope='module')
def installed() -> dict:
    return json.loads(json.dumps(schema_of(sorted(Path(CONFIGS).glob('*.py')))))


@pytest.mark.parametrize('part', ['bases', 'arguments'])
def test_the_schema_is_that_of_the_installed_mmdetection(installed, part):
    kept = json.loads(SCHEMA.read_text(encoding='utf-8'))[part]
    changed = [name for name in kept if kept[name] != installed[part].get(name)]
    assert changed == [], 'write it anew with tests/schema_writer.py, and look at the difference'
    assert kept.keys() == installed[part].keys()
