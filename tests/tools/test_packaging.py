"""What the package index and pip are told."""

import re
import runpy
import sys

import pytest
import setuptools
from packaging.requirements import Requirement

from toy_run import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def test_every_link_of_the_description_is_absolute_and_leads_to_a_file(monkeypatch):
    told = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **options: told.update(options))
    runpy.run_path(str(ROOT / 'setup.py'))
    links = re.findall(r'\]\(([^)]*)\)', told['long_description'])
    readme = re.findall(r'\]\(([^)]*)\)', (ROOT / 'README.md').read_text(encoding='utf-8'))
    assert len(links) == len(readme) > 20
    assert [link for link in links if not link.startswith('https://')] == []
    place = re.compile(re.escape(PROJECT['urls']['Source']) + '/(blob|raw)/main/')
    own = [link for link in links if place.match(link)]
    assert len(own) == sum('://' not in link for link in readme)
    files = [place.sub('', link).partition('#')[0] for link in own]
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert all('/raw/' in link for link in own if link.endswith('.png'))


def test_the_lock_pins_every_requirement_to_a_version_that_it_allows():
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    pins = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r'==[^,*]+', str(pin.specifier)) for pin in pins)
    extras = PROJECT['optional-dependencies']
    needed = [*(ROOT / 'requirements.txt').read_text().split()]
    # MMPretrain does not import with the transformers that the lock has.
    apart = ('release', 'mmpretrain')
    needed += [line for name in extras if name not in apart for line in extras[name]]
    for requirement in map(Requirement, needed):
        if requirement.name == 'a2mim':
            assert requirement.extras <= set(extras)
            continue
        found = [pin for pin in pins if pin.name == requirement.name]
        assert found, requirement
        for pin in found:
            assert requirement.specifier.contains(str(pin.specifier)[2:]), (pin, requirement)


@pytest.mark.parametrize('name', ['configs', 'tools', 'model-index.yml'])
def test_a_checkout_has_at_mim_what_a_wheel_has_there(name):
    assert (ROOT / 'a2mim' / '.mim' / name).resolve() == ROOT / name
