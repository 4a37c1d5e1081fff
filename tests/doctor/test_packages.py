"""Packages that are missing, of another version, broken, or in each other's way."""

import importlib
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from a2mim.doctor import checks
from a2mim.doctor.checks import Verdict


def test_what_is_there_and_imports_is_fine():
    finding = checks.check_package(Requirement('timm>=1.0.15,<2'))
    assert finding.verdict is Verdict.OK
    assert finding.found == metadata.version('timm')


def test_a_missing_package_comes_with_its_command():
    finding = checks.check_package(Requirement('no-such-package>=3'))
    assert finding.verdict is Verdict.MISSING
    assert finding.remedy == "pip install 'no-such-package>=3'"
    assert finding.stops


def test_a_version_that_is_excluded_is_a_problem():
    version = metadata.version('torch')
    finding = checks.check_package(Requirement(f'torch>=2.6,!={version}'))
    assert finding.verdict is Verdict.PROBLEM
    assert finding.found.startswith(f'{version}, but ')


@pytest.mark.parametrize(
    'name, error, remedy',
    [
        ('opencv-python', ImportError('libGL.so.1: cannot open shared object'), 'libgl1'),
        ('torchvision', RuntimeError('operator torchvision::nms does not exist'), 'another torch'),
        ('timm', SyntaxError('invalid syntax'), "pip install 'timm"),
    ],
)
def test_a_package_that_does_not_import_is_a_finding(monkeypatch, name, error, remedy):
    def broken(_: str) -> None:
        raise error

    monkeypatch.setattr(importlib, 'import_module', broken)
    finding = checks.check_package(Requirement(name))
    assert finding.stops
    assert 'does not import: ' in finding.found
    assert remedy in finding.remedy


@pytest.fixture
def distributions(monkeypatch) -> dict[str, str]:
    """What is installed, in place of what is."""
    versions: dict[str, str] = {}
    monkeypatch.setattr(checks, 'installed', versions.get)
    return versions


def test_the_two_lines_of_openmmlab_do_not_mix(distributions):
    distributions.update({'onedl-mmengine': '0.10.12', 'mmcv-lite': '2.2.0', 'mmengine': '0.10.7'})
    (finding,) = checks.check_mixtures()
    assert finding.stops
    assert finding.remedy.startswith('pip uninstall mmengine mmcv-lite;')


def test_two_versions_of_opencv_are_a_problem_and_one_twice_is_none(distributions):
    distributions.update({'opencv-python': '5.0', 'opencv-python-headless': '5.0'})
    assert [*checks.check_mixtures()] == []
    distributions['opencv-python-headless'] = '4.12'
    (finding,) = checks.check_mixtures()
    assert 'opencv-python 5.0, opencv-python-headless 4.12' in finding.found
    assert not finding.stops


def test_an_installation_that_is_not_there_is_said(distributions):
    (finding,) = checks.check_core()
    assert finding.stops
    assert 'pip install -e .' in finding.remedy


@pytest.fixture
def declared(monkeypatch) -> list[str]:
    """What a2mim needs, in place of what it does."""
    lines: list[str] = []
    monkeypatch.setattr(metadata, 'requires', lambda _: lines)
    return lines


def test_an_extra_is_there_missing_or_of_another_version(declared, distributions):
    declared += ['torch', 'lmdb>=1.4; extra == "shards"', 'onnx>=1; extra == "export"']
    distributions.update({'a2mim': '0.1', 'torch': '2.14', 'lmdb': '1.5'})
    there, missing = (checks.check_extra(name) for name in ('shards', 'export'))
    assert (there.verdict, there.found) == (Verdict.OK, 'lmdb 1.5')
    assert (missing.verdict, missing.found) == (Verdict.MISSING, 'without onnx')
    assert "pip install -e '.[export]'" in missing.remedy
    distributions['lmdb'] = '1.0'
    old = checks.check_extra('shards')
    assert (old.verdict, old.found) == (Verdict.PROBLEM, 'lmdb 1.0 instead of >=1.4')
    assert checks.check_extra('det').found == 'not part of this installation'


def test_the_core_is_what_no_extra_adds(declared, distributions):
    declared += ['torch>=2.6', 'lmdb>=1.4; extra == "shards"', 'tomli; python_version < "3"']
    distributions['a2mim'] = '0.1'
    assert [requirement.name for requirement in checks.requirements()] == ['torch']
