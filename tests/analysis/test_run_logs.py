"""Logs of runs: parts joined, keys, times."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from a2mim.analysis.runs import plot_curves, read_run, train_time
from toy_run import load_tool


def write_part(work_dir: Path, name: str, lines: list[dict]) -> Path:
    path = work_dir / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines), encoding='utf-8')
    return path


def train(step: int, loss: float, time: float = 1.0) -> dict:
    """A line of a run with two iterations an epoch."""
    return dict(loss=loss, time=time, epoch=(step + 1) // 2, iter=step, step=step)


@pytest.fixture
def resumed(tmp_path: Path) -> Path:
    first = [train(1, 9), train(2, 8), dict(acc=1, step=1), train(3, 7), train(4, 6)]
    write_part(tmp_path / 'run', '20260101_000000', [*first, dict(acc=2, step=2)])
    second = [train(3, 70), train(4, 60), dict(acc=20, step=2)]
    write_part(tmp_path / 'run', '20260102_000000', second)
    return tmp_path / 'run'


def test_a_resumed_run_has_every_step_once_as_it_was_done_last(resumed: Path) -> None:
    run = read_run(resumed)
    assert run.curve('loss') == ([1, 2, 3, 4], [9, 8, 70, 60], False)
    assert run.curve('acc') == ([1, 2], [1, 20], True)
    assert run.label == 'run'


def test_a_validation_behind_the_point_of_resume_is_forgotten(tmp_path: Path) -> None:
    write_part(tmp_path, '1', [train(1, 1), train(2, 1), train(3, 1), dict(acc=5, step=2)])
    write_part(tmp_path, '2', [train(3, 2)])
    assert read_run(tmp_path).val == []


def test_published_iterations_are_counted_through_the_epochs(tmp_path: Path) -> None:
    lines = [
        dict(env_info='x'),
        dict(mode='train', epoch=1, iter=50, loss=3.0),
        dict(mode='train', epoch=1, iter=100, loss=2.0),
        dict(mode='val', epoch=1, iter=10, head0_top1=40.0),
        dict(mode='train', epoch=2, iter=50, loss=1.0),
    ]
    path = tmp_path / 'old.log.json'
    path.write_text('\n'.join(map(json.dumps, lines)), encoding='utf-8')
    run = read_run(path)
    assert run.curve('loss') == ([50, 100, 150], [3.0, 2.0, 1.0], False)
    assert run.curve('head0_top1') == ([1], [40.0], True)


def test_times_leave_out_the_first_of_each_epoch(tmp_path: Path) -> None:
    times = (9.0, 1.0, 8.0, 3.0)
    write_part(tmp_path, '1', [train(step, 0, time) for step, time in enumerate(times, 1)])
    found = train_time(read_run(tmp_path))
    assert (found.mean, found.std, found.slowest, found.fastest) == (2.0, 1.0, 2, 1)
    everything = train_time(read_run(tmp_path), include_outliers=True)
    assert everything.mean == 21 / 4
    assert everything.epochs == {1: 5.0, 2: 5.5}


def test_training_and_validation_have_axes_of_their_own(resumed: Path) -> None:
    figure = Figure()
    rows = plot_curves(figure, [read_run(resumed)], ['loss', 'acc'])
    assert [axis.get_xlabel() for axis in figure.axes] == ['iteration', 'epoch']
    assert len(rows) == 6


def test_an_unknown_key_names_those_that_there_are(resumed: Path) -> None:
    with pytest.raises(ValueError, match="no log has the key 'lr'; there are acc, loss, time"):
        plot_curves(Figure(), [read_run(resumed)], ['lr'])


def test_a_legend_of_another_length_is_refused(resumed: Path) -> None:
    with pytest.raises(ValueError, match='2 texts of the legend'):
        plot_curves(Figure(), [read_run(resumed)], ['loss'], ['a', 'b'])


def test_a_line_cut_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    path = write_part(tmp_path, '1', [train(1, 1)])
    path.write_text(path.read_text() + '{"loss": 0.', encoding='utf-8')
    assert len(read_run(path).train) == 1


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='there is no log'):
        read_run(tmp_path / 'missing.json')
    with pytest.raises(FileNotFoundError, match='not the work dir of a run'):
        read_run(tmp_path)
    (tmp_path / 'test.json').write_text('{\n  "accuracy/top1": 1\n}\n')
    with pytest.raises(ValueError, match='line 1 is not a JSON object'):
        read_run(tmp_path / 'test.json')


def test_the_tool_draws_and_prints(resumed: Path, capsys: pytest.CaptureFixture) -> None:
    tool = load_tool('analysis_tools/analyze_logs')
    out = resumed / 'curve.png'
    tool.main(['plot_curve', str(resumed), '--keys', 'loss', 'acc', '--out', str(out)])
    assert out.is_file() and out.with_suffix('.pdf').is_file()
    tool.main(['cal_train_time', str(resumed)])
    assert '1.0000 s per iteration' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        tool.main(['plot_curve', str(resumed), '--style', 'nope'])
    assert '--style nope' in capsys.readouterr().err
