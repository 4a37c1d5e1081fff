"""One number for a run, and the published programs that print it."""

import json
import os
from pathlib import Path

import pytest

from a2mim.analysis.runs import find_runs, high_value, median_of_last
from toy_run import load_tool


def write_run(folder: Path, tops: list[float], age: int) -> None:
    """A run that was validated after each epoch, ``age`` seconds older than one of age 0."""
    lines = [dict(loss=1.0, epoch=1, iter=1, step=1)]
    lines += [{'accuracy/top1': top, 'step': epoch} for epoch, top in enumerate(tops, 1)]
    file = folder / '20260101_000000/vis_data/scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(map(json.dumps, lines)), encoding='utf-8')
    os.utime(file, (1e9 - age, 1e9 - age))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four runs, of which ``b`` is the oldest."""
    for name, tops, age in (
        ('a', [10, 50, 40, 30], 1),
        ('b', [99, 99, 99, 99], 4),
        ('c', [10, 20, 60, 50], 0),
        ('d', [5, 5, 5, 10], 2),
    ):
        write_run(tmp_path / name, tops, age)
    return tmp_path


def test_runs_below_a_folder_are_found_the_last_at_the_end(runs: Path) -> None:
    assert [run.label for run in find_runs(runs)] == ['b', 'd', 'a', 'c']
    assert [run.label for run in find_runs(runs / 'a')] == ['a']


def test_median_and_maximum_are_of_the_last_epochs(runs: Path) -> None:
    (run,) = find_runs(runs / 'a')
    assert median_of_last(run, 'accuracy/top1', 4, 2) == (35, 40)
    assert median_of_last(run, 'accuracy/top1', 3, 3) == (40, 50)


def test_high_value_lies_between_the_maximum_and_the_99th_percentile(runs: Path) -> None:
    (run,) = find_runs(runs / 'a')
    # Of 10, 30, 40, 50 the percentile is 40 + 0.97 · 10.
    assert high_value(run, 'accuracy/top1') == pytest.approx((50 + 49.7) / 2)


def test_published_logs_are_read(tmp_path: Path) -> None:
    lines = [
        dict(mode='val', epoch=epoch, iter=5, head0_top1=top) for epoch, top in ((1, 3), (2, 5))
    ]
    (tmp_path / 'x').mkdir()
    text = '\n'.join(map(json.dumps, [dict(mode='train', epoch=1, iter=5, loss=1.0), *lines]))
    (tmp_path / 'x/20260101.log.json').write_text(text, encoding='utf-8')
    (run,) = find_runs(tmp_path)
    assert median_of_last(run, 'head0_top1', 2, 2) == (4, 5)


def test_the_programs_print(runs: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(runs / 'b/pretrain', [], 9)  # a run without this validation
    (runs / 'b/20260101_000000/vis_data/scalars.json').unlink()
    line = [str(runs), '4', '2', 'accuracy/top1']
    load_tool('summary/find_classification_val_median').main(line)
    assert capsys.readouterr().out.splitlines() == [
        "left out: pretrain has no validation of 'accuracy/top1'; it has none",
        'd: accuracy/top1 median 7.500, highest 10.000',
        'a: accuracy/top1 median 35.000, highest 40.000',
        'c: accuracy/top1 median 55.000, highest 60.000',
        '3 runs: accuracy/top1 median 32.500 ± 23.848',
    ]
    load_tool('summary/find_val_max_3times_average').main([str(runs), 'accuracy/top1'])
    out = capsys.readouterr().out
    assert out.endswith('mean of 3 run(s): accuracy/top1 39.875\n')


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (
            ['{}', '9', '2', 'accuracy/top1'],
            'b has accuracy/top1 of epochs up to 4, not of epoch 9',
        ),
        (['{}', '4', '2', 'acc'], "b has no validation of 'acc'; it has accuracy/top1"),
        (['{}', '4', '5', 'acc'], 'LAST_N 5 must be 1 to EPOCHS 4'),
        (['{}/none', '4', '2', 'acc'], 'there is no log at'),
    ],
)
def test_bad_input_is_one_line(
    runs: Path, line: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    tool = load_tool('summary/find_classification_val_median')
    with pytest.raises(SystemExit) as end:
        tool.main([word.format(runs) for word in line])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
