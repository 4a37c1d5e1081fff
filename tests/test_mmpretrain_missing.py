"""Without MMPretrain, or with another version, a config for it says in one line what to install."""

import importlib.metadata
import sys

import pytest
from mmengine import Config

from recipes import CONFIGS

CONFIG = next((CONFIGS / 'mmpretrain').glob('a2mim_*photos*.py'))


@pytest.mark.parametrize(
    'found, said',
    [
        ({}, r'MMPretrain \(onedl-mmpretrain\) is not installed; run: pip install'),
        ({'onedl-mmpretrain': '2.0.1'}, 'MMPretrain 2.0.1 is installed, version 1 is needed'),
        ({'onedl-mmpretrain': '0.25.0'}, 'MMPretrain 0.25.0 is installed, version 1 is needed'),
        ({'onedl-mmpretrain': '10.0'}, 'MMPretrain 10.0 is installed, version 1 is needed'),
        ({'onedl-mmpretrain': '1.3.6'}, r'MMPretrain 1.3.6 cannot be imported \(.*mmpretrain.*\)'),
        # Upstream's: another distribution, with the same files.
        ({'mmpretrain': '1.2.0'}, r'MMPretrain 1.2.0 cannot be imported \(.*; run: pip uninstall'),
        ({'mmpretrain': '0.9'}, 'version 1 is needed; run: pip uninstall mmpretrain && pip inst'),
    ],
)
def test_the_line_has_the_remedy(monkeypatch, found, said):
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if 'mmpretrain' not in name:
            return installed(name)
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, 'version', version)
    monkeypatch.setitem(sys.modules, 'mmpretrain', None)
    for name in [name for name in sys.modules if name.startswith('mmpretrain.')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, 'a2mim.mmpretrain', raising=False)
    with pytest.raises(ValueError, match=said) as refusal:
        Config.fromfile(CONFIG)  # as MMPretrain's launcher does
    message = str(refusal.value)
    assert '\n' not in message and 'pip install "onedl-mmpretrain>=1' in message
