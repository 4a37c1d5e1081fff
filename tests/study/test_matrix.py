"""What a study consists of, and what is wrong with one before its first run."""

import json
import multiprocessing

import pytest

from a2mim.study.checks import check_study
from a2mim.study.driver import chosen_rate
from a2mim.study.matrix import Job, read_study
from a2mim.study.results import append_result, check_folder, read_results
from tiny_study import DIGITS, tiny_study
from toy_run import load_tool


def test_the_digits_study_has_all_cells_and_shares_pre_trainings():
    study = read_study(DIGITS)
    check_study(study)
    jobs = study.jobs()
    kinds = [job.kind for job in jobs]
    # Six starts of each network, and MAE of the ViT, SparK of the others.
    assert [len(study.starts_of(network)) for network in study.networks] == [7, 7, 7]
    assert kinds.count('final') == 3 * 7 * 2 * 5
    assert kinds.count('pretrain') == 3 * 6 * (5 + 1)  # one for both label counts
    assert kinds.count('rate') == 3 * 7 * 2 * 3
    assert len({job.name for job in jobs}) == len(jobs)
    places = {job: place for place, job in enumerate(jobs)}
    for job in jobs:
        before = [*study.with_start(job)][:-1]
        before += study.rate_jobs(job) if job.kind == 'final' else []
        assert all(places[each] < places[job] for each in before)
    needed = study.needed({'network': 'vit-4x128', 'start': 'scratch', 'labels': '2', 'seed': '3'})
    assert [job.kind for job in needed] == ['rate'] * 3 + ['final']


@pytest.mark.parametrize(
    'changes, said',
    [
        (dict(labels={200: {'train_dataloader.dataset.source.labels_per_class': 200}}), '200'),
        (dict(starts={'deep': {'model.backbone.mask_after': 'blocks.7'}}), 'blocks.7'),
        (dict(starts={'head': {'model.backbone.mask_after': 'stages.0'}}), 'stages.0'),
        (
            dict(starts={'fine': {'train_dataloader.dataset.mask.block_size': 2}}),
            'vit cannot start by fine',
        ),
        (dict(seeds=[9]), r'\[9\]'),
        (dict(rates=[]), 'rates is empty'),
        (dict(colours=[1]), 'colours'),
        (dict(chosen={'vit': {'scratch': 1e-3}}), r"each of \['a2mim', 'scratch'\] of vit"),
        (dict(networks={'vit': dict(pretrain='pretrain.py')}), 'network vit'),
    ],
)
def test_a_study_that_cannot_run_is_refused_in_one_line(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said) as found:
        check_study(tiny_study(tmp_path / 'study', **changes))
    assert '\n' not in str(found.value)


def test_a_folder_belongs_to_one_matrix_but_takes_further_seeds_and_starts(tmp_path):
    study = tiny_study(tmp_path / 'study')
    check_folder(tmp_path / 'out', study)
    check_folder(tmp_path / 'out', tiny_study(tmp_path / 'study', seeds=[0, 1, 2]))
    token = {'model.backbone.mask_token.mode': 'replace'}
    starts = {'scratch': None, 'a2mim': {}, 'replaced': token}
    check_folder(tmp_path / 'out', tiny_study(tmp_path / 'study', starts=starts))
    check_folder(tmp_path / 'out', study)  # which has fewer of them
    for changes in (
        dict(rates=[2e-3]),
        dict(rate_seeds=[7]),
        dict(starts={'a2mim': token}),
        dict(starts={'replaced': {}}),
        dict(labels={2: {'train_dataloader.batch_size': 10}}),
    ):
        with pytest.raises(ValueError, match='another matrix'):
            check_folder(tmp_path / 'out', tiny_study(tmp_path / 'study', **changes))
    changed = tiny_study(tmp_path / 'study')
    config = tmp_path / 'study/finetune.py'
    config.write_text(config.read_text().replace('max_epochs=6', 'max_epochs=5'))
    with pytest.raises(ValueError, match=r"another matrix, by \['finetune.vit.2'\]"):
        check_folder(tmp_path / 'out', read_study(changed.folder))
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/photo.jpg').touch()
    with pytest.raises(ValueError, match='not empty'):
        check_folder(tmp_path / 'mine', study)


def test_a_start_with_its_own_configs_is_one_of_their_networks_alone(tmp_path):
    study = tiny_study(tmp_path / 'study')
    (tmp_path / 'study/other.py').write_text((tmp_path / 'study/pretrain.py').read_text())
    starts = {'scratch': None, 'other': {'configs': {'vit': 'other.py'}, 'train_cfg.max_epochs': 3}}
    networks = {'vit': study.networks['vit'], 'twin': study.networks['vit']}
    study = tiny_study(tmp_path / 'study', starts=starts, networks=networks)
    check_study(study)
    assert (study.starts_of('vit'), study.starts_of('twin')) == (['scratch', 'other'], ['scratch'])
    jobs = [job for job in study.jobs() if job.start == 'other' and job.kind == 'pretrain']
    assert {job.network for job in jobs} == {'vit'}
    assert study.config(jobs[0]).name == 'other.py'
    assert study.changes(jobs[0]) == {'train_cfg.max_epochs': 3}
    starts['other']['configs'] = {'resnet': 'other.py'}
    with pytest.raises(ValueError, match='start other has a config for resnet'):
        tiny_study(tmp_path / 'study', starts=starts, networks=networks)
    starts['other']['configs'] = {'vit': 'none.py'}
    with pytest.raises(FileNotFoundError, match=r'none\.py'):
        tiny_study(tmp_path / 'study', starts=starts, networks=networks)


def test_an_axis_or_value_of_no_study_is_refused(tmp_path):
    study = tiny_study(tmp_path / 'study')
    for only, said in (({'depth': '3'}, 'axes are'), ({'start': 'mae'}, 'a2mim, scratch')):
        with pytest.raises(ValueError, match=said):
            study.needed(only)


def test_the_rate_is_the_best_on_validation_and_never_one_that_failed(tmp_path):
    study = tiny_study(tmp_path / 'study', rates=[3e-4, 1e-3, 3e-3], rate_seeds=[8, 9])
    job = Job('final', 'vit', 'scratch', 0, '2')

    def choose(accuracies: list[float | None]) -> float | None:
        results = {
            each.name: dict(status='finished' if a is not None else 'failed', accuracy=a)
            for each, a in zip(study.rate_jobs(job), accuracies, strict=True)
        }
        return chosen_rate(study, job, results)

    assert choose([10, 30, 20, 30, 20, 25]) == 1e-3  # means 20, 25, 22.5
    assert choose([10, 90, 20, 30, None, 25]) == 3e-3
    assert choose([25, 25, 25, 25, 25, 25]) == 3e-4
    assert choose([None] * 6) is None
    rates = {'vit': {'scratch': 2e-3, 'a2mim': 1e-3}}
    before = tiny_study(tmp_path / 'study', rates=[3e-4, 1e-3], chosen=rates)
    assert chosen_rate(before, job, {}) == 2e-3
    assert {each.kind for each in before.jobs()} == {'pretrain', 'final'}


def _append(path, worker):
    for number in range(50):
        append_result(path, dict(run=f'{worker}.{number}', text='x' * worker * 100))


def test_processes_append_whole_lines(tmp_path):
    path = tmp_path / 'results.jsonl'
    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=_append, args=(path, worker)) for worker in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len(read_results(path)) == 150


@pytest.mark.parametrize('left', ['{"run": "b"', '{"run": "b"}'])
def test_what_a_killed_writer_left_of_a_line_is_replaced(left, tmp_path):
    path = tmp_path / 'results.jsonl'
    append_result(path, dict(run='a'))
    with path.open('a') as file:
        file.write(left)
    assert [*read_results(path)] == ['a']
    append_result(path, dict(run='c'))
    assert [json.loads(line)['run'] for line in path.read_text().splitlines()] == ['a', 'c']
    path.write_text('{"run": "a"}\nnonsense\n{"run": "c"}\n')
    with pytest.raises(ValueError, match='line 2'):
        read_results(path)


@pytest.mark.parametrize(
    'words, said',
    [
        (['--processes', '0'], '--processes 0'),
        (['--only', 'start=byol'], 'start=byol'),
        (['--device', 'cuda'], 'no GPU'),
        (['--seeds', '100'], r'\[100\]'),
    ],
)
def test_the_command_line_refuses_mistakes_with_exit_code_2(words, said, tmp_path, capfd):
    tool = load_tool('run', 'tools/study')
    with pytest.raises(SystemExit) as found:
        tool.main(['digits', '--out', str(tmp_path / 'out'), *words])
    assert found.value.code == 2
    error = capfd.readouterr().err
    assert error.count('\n') == 1 and said.strip('\\[]') in error
