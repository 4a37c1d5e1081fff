import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import a2mim
from a2mim.weights import released
from a2mim.weights.load_model import model_config, read_config
from a2mim.weights.released import config_path, entries, find_entry

DATA = Path(__file__).parents[1] / 'data'


def test_names_files_and_addresses_are_unique():
    for field in ('name', 'file', 'url'):
        values = [getattr(entry, field) for entry in entries() if getattr(entry, field)]
        assert len(set(values)) == len(values)


def test_every_entry_is_consistent():
    for entry in entries():
        method, kind = entry.name.split('_')[0], entry.kind
        assert method in entry.file, entry
        assert kind == ('classifier' if '_ft_' in entry.name else 'pretrain'), entry
        folders = entry.config.split('/')[1:3]
        assert folders[0] == ('finetune' if kind == 'classifier' else 'pretrain'), entry
        assert kind == 'classifier' or folders[1] == method, entry
        if entry.url is None:
            assert entry.note, entry
        else:
            assert entry.url.startswith('https://github.com/Westlake-AI/'), entry
            assert entry.url.endswith(f'/{entry.file}'), entry


def test_every_recipe_is_there_and_is_of_its_kind():
    methods = dict(a2mim='A2MIM', simmim='SimMIM')
    for entry in entries():
        model = model_config(read_config(config_path(entry.config)))
        method = methods[entry.name.split('_')[0]]
        assert model['type'] == ('ImageClassifier' if entry.kind == 'classifier' else method), entry


def test_names_are_listed_by_pattern():
    found = a2mim.list_models('a2mim_resnet50_*_ft_*')
    assert found == ['a2mim_resnet50_100e_ft_rsb-a3', 'a2mim_resnet50_300e_ft_rsb-a2']
    assert a2mim.list_models('none*') == []
    assert len(a2mim.list_models()) == len(entries())


def test_names_without_an_address_can_be_left_out(monkeypatch):
    known, unknown = entries()[0], replace(entries()[1], url=None)
    monkeypatch.setattr(released, 'entries', lambda: (known, unknown))
    assert a2mim.list_models() == [known.name, unknown.name]
    assert a2mim.list_models(pretrained_only=True) == [known.name]


def test_the_table_is_that_of_the_published_page():
    page = json.loads((DATA / 'released_links.json').read_text(encoding='utf-8'))
    linked: dict[str, set[str]] = {'ckpt': set(), 'vis': set(), 'log': set()}
    for row in page['rows']:
        for kind, url in row['links']:
            linked[kind].add(url)
        own = {entry.url: entry for entry in entries()}
        for entry in (own[url] for kind, url in row['links'] if kind == 'ckpt'):
            assert entry.parameters == page['parameters'][row['backbone']], entry
            assert entry.name.startswith(row['method'].lower()), entry
    assert len(linked['ckpt']) == 36
    assert linked['ckpt'] == {entry.url for entry in entries()}
    assert linked['vis'] == {e.visualisations for e in entries() if e.visualisations}
    assert linked['log'] == {entry.log for entry in entries() if entry.log}


@pytest.mark.parametrize('there', [(0,), (1,), (0, 1), ()])
def test_a_file_is_looked_for_in_both_repositories(there, monkeypatch, tmp_path):
    entry, asked = find_entry('a2mim_resnet50_100e'), []
    a2mim_url, openmixup_url = sorted(entry.addresses, key=lambda url: 'openmixup' in url)
    assert (a2mim_url, openmixup_url) == entry.addresses[::-1]
    assert a2mim_url.replace('/A2MIM/', '/openmixup/') == openmixup_url

    def fetch(url, path, sha256):
        asked.append(url)
        if entry.addresses.index(url) not in there:
            raise FileNotFoundError(f'{url}: 404')
        torch.save(dict(from_url=url), path)

    monkeypatch.setattr(released, 'fetch', fetch)
    monkeypatch.setenv('A2MIM_HOME', str(tmp_path))
    if there:
        assert torch.load(released.local_file(entry)) == dict(from_url=asked[-1])
    else:
        with pytest.raises(FileNotFoundError, match=entry.url):
            released.local_file(entry)
    assert asked == list(entry.addresses[: min(there, default=1) + 1])


def test_an_unknown_name_has_neighbours():
    with pytest.raises(KeyError, match=r"'a2mim_resnet50'; close to it: a2mim_resnet50_\d00e"):
        find_entry('a2mim_resnet50')


@pytest.mark.integration
def test_looking_at_the_table_imports_nothing_heavy():
    code = (
        'import sys, a2mim\nfrom a2mim.weights.released import entries\n'
        'a2mim.list_models(); entries()\n'
        "print([name for name in ('torch', 'mmengine', 'timm', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == '[]\n'


def test_the_package_offers_what_it_lists():
    for name in a2mim.__all__:
        assert getattr(a2mim, name)
        assert name in dir(a2mim)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = a2mim.nothing
