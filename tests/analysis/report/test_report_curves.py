"""Curves: every run in every panel that it has values for."""

import pytest

from a2mim.analysis.report_sections import Comparison, add_curves, draw_panels, kind_of, last_values
from a2mim.analysis.runs import RunLog


def log(label: str, **metrics: list[float]) -> RunLog:
    train = [dict(step=step, epoch=1, loss=1 / step, lr=0.1, time=1.0) for step in (1, 2, 3)]
    val = [
        dict(step=epoch, **{name: values[epoch - 1] for name, values in metrics.items()})
        for epoch in (1, 2)
    ]
    return RunLog(label, train, val, True)


def test_a_panel_has_a_line_for_each_run_that_logged_it() -> None:
    logs = [log('a', top1=[1, 2]), log('b', top5=[3, 4])]
    figure = draw_panels(logs, ['loss', 'top1', 'top5', 'lr'])
    drawn = {
        panel.get_ylabel(): [line.get_label() for line in panel.get_lines()]
        for panel in figure.axes
        if panel.get_visible()
    }
    assert drawn == {
        'loss': ['a', 'b'], 'top1 (%)': ['a'], 'top5 (%)': ['b'], 'learning rate': ['a', 'b'],
    }  # fmt: skip
    assert [panel.get_visible() for panel in figure.axes] == [True] * 4 + [False] * 2


def test_axes_say_what_they_count() -> None:
    loss, top1 = draw_panels([log('a', top1=[1, 2])], ['loss', 'top1']).axes
    assert (loss.get_xlabel(), top1.get_xlabel()) == ('iteration', 'epoch')


def test_a_run_has_one_colour_in_all_panels() -> None:
    logs = [log('a', top1=[1, 2]), log('b', top5=[3, 4])]
    lines = [line for panel in draw_panels(logs, ['loss', 'top5']).axes for line in panel.lines]
    assert len({line.get_color() for line in lines if line.get_label() == 'b'}) == 1


def test_last_values_name_the_step_and_the_best_metric() -> None:
    assert last_values([log('a', top1=[80.0, 70.0])]) == [
        dict(network='a', key='loss', step='iteration 3', last=1 / 3, highest=''),
        dict(network='a', key='top1', step='epoch 2', last=70.0, highest=80.0),
    ]


@pytest.mark.parametrize(
    'key, name',
    [('loss_spatial', 'losses'), ('base_lr', 'learning_rate'), ('probe/knn_top1', 'metrics')],
)
def test_keys_are_sorted_into_figures(key: str, name: str) -> None:
    assert kind_of(key) == name


def test_without_logs_the_reason_is_said() -> None:
    with pytest.raises(ValueError, match='no network is given as a work dir with logs'):
        add_curves(Comparison([]), None)
