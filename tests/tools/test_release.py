"""The version is the same wherever it is stated, and the files that a release needs are whole."""

import re

import yaml

from a2mim import __version__
from toy_run import ROOT


def test_package_changelog_and_citation_state_one_version():
    log = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    versions = re.findall(r'^## \[?(\d+\.\d+\.\d+)\]? - (\d{4}-\d\d-\d\d)$', log, re.MULTILINE)
    assert log.index('\n## [Unreleased]\n') < log.index(f'\n## [{__version__}] - ')
    assert versions[0][0] == __version__
    assert [day for _, day in versions] == sorted((day for _, day in versions), reverse=True)
    assert set(re.findall(r'^### (.+)$', log, re.MULTILINE)) <= {
        *('Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security')
    }
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert (citation['version'], citation['date-released']) == versions[0]
    assert f'[{__version__}]: ' in log and f'v{__version__}...HEAD' in log


def test_templates_and_workflows_are_read_and_name_files_and_targets_that_exist():
    targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    files = [*ROOT.glob('.github/**/*.yml'), ROOT / '.readthedocs.yaml']
    assert len(files) >= 6
    for file in files:
        text = file.read_text(encoding='utf-8')
        assert yaml.safe_load(text)
        called = ' '.join(re.findall(r'make ([a-z ]+)$', text, re.MULTILINE)).split()
        assert set(called) <= set(targets)
        for name in re.findall(r'\b(?:docs/conf\.py|[A-Z]+\.md)\b', text):
            assert (ROOT / name).is_file(), f'{file.name}: {name}'
