"""Statistics of a study against scipy and against formulas, and what a page does not say."""

import math

import numpy as np
import pytest
from scipy import stats

from a2mim.study import page as page_module
from a2mim.study.evaluation import (
    Cell,
    compare,
    paired,
    power,
    read_cells,
    seeds_needed,
    sentence,
)
from a2mim.study.matrix import find_study, read_study
from a2mim.study.page import draw_plot, write_page
from a2mim.study.results import check_folder
from tiny_study import DIGITS, tiny_study
from toy_run import load_tool


def cell(accuracy: list[float], loss: float = 0.01, seeds: list[int] | None = None) -> Cell:
    seeds = seeds or [*range(len(accuracy))]
    losses, probes = dict.fromkeys(seeds, loss), {'linear': {}, 'knn': {}}
    accuracies = dict(zip(seeds, accuracy, strict=True))
    return Cell('vit', 'a2mim', '2', accuracies, losses, probes, (1e-3,), ())


@pytest.mark.parametrize('n', [2, 3, 5, 12])
def test_paired_differences_are_those_of_a_paired_t_test(n):
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(80, 2, n), rng.normal(76, 3, n)
    found = compare(cell([*ours]), cell([*theirs]))
    test = stats.ttest_rel(ours, theirs)
    assert found.n == n
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert found.deviation == pytest.approx(np.std(ours - theirs, ddof=1))
    assert found.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_only_seeds_of_both_are_compared():
    found = compare(cell([80, 81, 90], seeds=[0, 1, 2]), cell([70, 50, 79], seeds=[1, 7, 0]))
    assert (found.n, found.mean) == (2, pytest.approx(((80 - 79) + (81 - 70)) / 2))
    assert compare(cell([80], seeds=[0]), cell([80], seeds=[1])).refusal
    single = paired([1.5])
    assert (single.n, single.mean) == (1, 1.5) and math.isnan(single.deviation)


@pytest.mark.parametrize('loss, refused', [(0.05, False), (0.07, True), (0.01, False)])
def test_no_gain_is_given_over_a_baseline_that_was_trained_less_far(loss, refused):
    ours, baseline = cell([80, 81], loss=0.01), cell([70, 71], loss=loss)
    found = compare(ours, baseline, margin=0.05)
    assert bool(found.refusal) == refused
    assert math.isnan(found.mean) == refused
    # A baseline that was trained further is a fair one, and one that is better nonetheless, too.
    assert not compare(baseline, ours, margin=0.05).refusal
    worse = compare(cell([60, 62], loss=0.01), baseline, margin=0.05)
    assert (worse.refusal, worse.mean) == ('', pytest.approx(-9.5))


@pytest.mark.parametrize(
    ('ours', 'loss', 'expected'),
    [
        ([63, 74, 85], 0.01, 'a gain of +4.0 ± 1.0 points (n = 3), more than its standard'),
        ([57, 66, 75], 0.01, 'a loss of -4.0 ± 1.0 points (n = 3), more than its standard'),
        ([61, 75, 75], 0.01, '+0.3 ± 5.0 points (n = 3), within noise'),
        # Equal to its spread: not more.
        ([60, 71, 82], 0.01, '+1.0 ± 1.0 points (n = 3), within noise'),
        ([63, 74, 85], 0.20, 'no gain is claimed: the baseline has a training loss of 0.20'),
        ([65], 0.01, '+5.0 points with one seed, which says nothing about the spread'),
    ],
)
def test_a_sentence_says_what_the_differences_allow(ours, loss, expected):
    baseline = cell([60, 70, 80][: len(ours)], loss=loss)
    assert sentence(compare(cell(ours), baseline)).startswith(expected)


@pytest.mark.parametrize('difference, deviation', [(0.4, 2.4), (0.8, 2.8), (6.2, 2.0), (3, 1.5)])
def test_seeds_needed_are_the_fewest_with_enough_power(difference, deviation):
    n = seeds_needed(difference, deviation)
    assert power(difference, deviation, n) >= 0.8 > power(difference, deviation, n - 1)
    # The normal approximation, plus the two or three pairs that estimating the deviation costs.
    normal = ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * deviation / difference) ** 2
    assert normal < n < normal + 4


def test_power_is_what_repeated_experiments_find():
    rng = np.random.default_rng(0)
    gains = rng.normal(1.0, 1.5, (20_000, 10))
    found = (stats.ttest_1samp(gains, 0, axis=1).pvalue < 0.05).mean()
    assert power(1.0, 1.5, 10) == pytest.approx(found, abs=0.01)
    assert power(0.0, 1.5, 10) == pytest.approx(0.05)
    assert seeds_needed(1e-6, 10.0) is None
    for wrong in ((0.0, 1.0), (1.0, 0.0), (float('nan'), 1.0)):
        with pytest.raises(ValueError, match='must be positive'):
            seeds_needed(*wrong)


def record(status: str = 'finished', **entries: object) -> dict:
    return dict(
        status=status, cpu_seconds=36.0, commit='abc', rate=1e-3, linear=50.0, knn=40.0, **entries
    )


def test_a_page_tells_what_is_missing_and_never_averages_a_failure(tmp_path):
    study = tiny_study(tmp_path / 'study', seeds=[0, 1, 2])
    results = {
        **{
            f'final.vit.scratch.labels2.seed{seed}': record(accuracy=70.0 + seed, train_loss=0.02)
            for seed in range(3)
        },
        'final.vit.a2mim.labels2.seed0': record(accuracy=76.0, train_loss=0.01),
        'final.vit.a2mim.labels2.seed1': record('failed', reason='NaN'),
    }
    page = write_page(study, results, 'plot.png')
    assert '**Not complete**: 5 of 6 cells' in page
    assert 'Failed, in no mean: final.vit.a2mim.labels2.seed1.' in page
    assert (
        '| scratch | 3 | 71.0 ± 1.0 |  | 0.020 ± 0.000 | 50.0 ± 0.0 | 40.0 ± 0.0 | 0.001 | 0 |'
        in page
    )
    assert '| a2mim | 1 | 76.0 | +6.0 (n = 1) | 0.010 | 50.0 | 40.0 | 0.001 | 1 |' in page
    assert 'a2mim against scratch: +6.0 points with one seed' in page
    draw_plot(study, results, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size > 1000
    for seed in range(3):
        results[f'final.vit.scratch.labels2.seed{seed}']['train_loss'] = 0.5
    assert 'trained as far' in write_page(study, results, 'plot.png')


def test_a_panel_of_the_plot_has_all_starts_of_its_network_and_label_count(monkeypatch, tmp_path):
    panels = {}

    def keep(figure, *args, **kwargs):
        for axes in figure.axes:
            panels[axes.get_title()] = [label.get_text() for label in axes.get_xticklabels()]

    monkeypatch.setattr(page_module.Figure, 'savefig', keep)
    study = read_study(DIGITS)
    draw_plot(study, {}, tmp_path / 'plot.png')
    assert [*panels] == [f'{n}, {c} labels per class' for n in study.networks for c in (2, 5)]
    for title, starts in panels.items():
        assert starts == study.starts_of(title.partition(',')[0])


def test_a_study_without_results_has_a_page_and_a_plot(tmp_path):
    study = read_study(DIGITS)
    page = write_page(study, {}, 'plot.png')
    assert page.startswith('**Not complete**: 0 of 210 cells') and '|' not in page
    assert all(not each.accuracy for each in read_cells(study, {}).values())
    draw_plot(study, {}, tmp_path / 'plot.png')


@pytest.mark.parametrize('name', ['digits', 'cifar10', 'cifar10_gpu'])
def test_the_page_is_what_the_published_results_give(name):
    """Written by ``python tools/study/report.py NAME --publish``."""
    report = load_tool('report', 'tools/study')
    study = read_study(find_study(name))
    assert report.page_of(study) == report.PAGE.read_text(encoding='utf-8')
    for page in report.SHORT:
        assert report.short_page_of(study, page) == page.read_text(encoding='utf-8')
    folder = report.published_folder(study)
    if folder.is_dir():
        check_folder(folder, study)


def test_a_folder_without_a_study_and_a_page_without_its_marks_are_refused(tmp_path, capfd):
    report = load_tool('report', 'tools/study')
    with pytest.raises(SystemExit) as found:
        report.main(['digits', str(tmp_path)])
    assert found.value.code == 2 and 'no results of a study' in capfd.readouterr().err
    with pytest.raises(ValueError, match='no line <!-- study: digits -->'):
        report.with_block('# A page', 'digits', '')
