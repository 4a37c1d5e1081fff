"""The command: two toy runs in one file, on the smallest networks."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from matplotlib.figure import Figure

from a2mim.analysis import Results, interactions
from a2mim.analysis import report as report_module
from a2mim.registry import MODELS
from toy_run import load_tool, toy_config, write_images


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('analysis_tools/report')


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``a`` and ``b`` of trainings, and images of three classes."""
    root = tmp_path_factory.mktemp('runs')
    for split, number in (('train', 8), ('val', 4)):
        write_images(root / 'data' / split, number)
    cfg = toy_config(root / 'data')
    for seed, name in enumerate('ab'):
        torch.manual_seed(seed)
        logs = root / name / '20260101_000000/vis_data'
        logs.mkdir(parents=True)
        lines = [dict(loss=1 / step, lr=0.1, epoch=1, iter=step, step=step) for step in (1, 2)]
        lines.append({'accuracy/top1': 50.0, 'step': 1})
        (logs / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
        state = MODELS.build(cfg.model).state_dict()
        torch.save(
            dict(state_dict=state, meta=dict(cfg=cfg.pretty_text)), logs.parents[1] / 'latest.pth'
        )
    return root


def arguments(runs: Path, out: Path, *more: object) -> list[str]:
    """Of the whole command on few images."""
    own = ['--images', runs / 'data/val', '--labelled', '--probe-images', runs / 'data']
    options = ['--quick', '--num-images', 2, '--device', 'cpu', '--out', out, *own, *more]
    return [str(one) for one in (f'A <1>={runs / "a"}', f'B & "2"={runs / "b"}', *options)]


@pytest.fixture(scope='module')
def report(tool: ModuleType, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every section, and a folder of results."""
    folder = tmp_path_factory.mktemp('out')
    results = Results(folder / 'other', 'Another measurement', {})
    results.add_figure(Figure(figsize=(1, 1)), 'picture', 'Of another tool.')
    results.finish()
    tool.main(arguments(runs, folder / 'report.html', '--results', folder / 'other'))
    return folder / 'report.html'


@pytest.mark.integration
def test_runs_are_side_by_side_with_what_they_are(report: Path) -> None:
    text = report.read_text(encoding='utf-8')
    assert '<td>A &lt;1&gt;</td>' in text and '<td>B &amp; &#34;2&#34;</td>' in text
    assert 'ImageClassifier; AdamW, lr 0.001' in text and '4 epochs' in text
    for title in ('Training curves', 'Frozen features', 'Interactions of patches', 'Another'):
        assert f'. {title}' in text


@pytest.mark.integration
def test_what_cannot_be_measured_is_named_with_its_reason(report: Path) -> None:
    text = report.read_text(encoding='utf-8')
    assert 'Left out: Reconstructions (no network has a decoder' in text
    assert '. Reconstructions</h2>' not in text


@pytest.mark.integration
def test_every_figure_of_every_section_is_in_the_file(report: Path) -> None:
    folders = [*report.with_name('report_sections').iterdir(), report.with_name('other')]
    finished = [json.loads((one / 'result.json').read_text()) for one in folders
                if (one / 'result.json').exists()]  # fmt: skip
    number = sum(len(index['figures']) for index in finished)
    assert report.read_text(encoding='utf-8').count('data:image/png') == number > 8


@pytest.mark.integration
def test_a_second_time_nothing_is_measured(
    tool: ModuleType, runs: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = report.read_text(encoding='utf-8')
    names = [name for name in report_module.SECTIONS if 'reconstruction' not in name]
    unable = {name: replace(report_module.SECTIONS[name], add=None) for name in names}
    monkeypatch.setattr(report_module, 'SECTIONS', unable)
    tool.main(arguments(runs, report, '--sections', *names))
    after = report.read_text(encoding='utf-8')
    assert after.count('data:image/png') == before.count('data:image/png') - 1


@pytest.mark.integration
def test_an_interrupted_section_goes_on_where_it_was(
    tool: ModuleType, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_part, done = interactions.measure_part, []

    def part(network, images, settings, number, advance):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((network.label, number))
        return measure_part(network, images, settings, number, advance)

    monkeypatch.setattr(interactions, 'measure_part', part)
    command = arguments(runs, tmp_path / 'report.html', '--sections', 'interactions')
    with pytest.raises(SystemExit, match='130'):
        tool.main(command)
    assert not (tmp_path / 'report.html').exists()
    first = list(done)
    done.clear()
    tool.main(command)
    assert len(first) == 3 and len(done) == 1 and not set(first) & set(done)


@pytest.mark.integration
def test_other_settings_are_another_folder(tool: ModuleType, runs: Path, tmp_path: Path) -> None:
    for seed in (0, 1, 0):
        command = arguments(runs, tmp_path / 'r.html', '--sections', 'features', '--seed', seed)
        tool.main(command)
    assert len(list((tmp_path / 'r_sections').iterdir())) == 2


@pytest.mark.parametrize(
    'change, message',
    [
        (['--sections', 'reconstructions'], 'section reconstructions: no network has a decoder'),
        (['--results', 'none'], 'none: there is no such folder of results'),
        (['--out', 'report.txt'], r'--out report.txt must end in .html'),
        (['--num-images', '1'], '--num-images 1: give 2 or more'),
        (['--images', 'none'], 'none'),
        (['--num-images', '999'], '999 images were asked for'),
        (['--probe-images', 'none', '--sections', 'features'], 'none'),
    ],
)
def test_bad_input_is_one_line(tool, runs, tmp_path, capsys, change, message) -> None:
    with pytest.raises(SystemExit) as ended:
        tool.main(arguments(runs, tmp_path / 'report.html', *change))
    error = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(error) == 1 and message in error[0]
    assert not (tmp_path / 'report.html').exists()


def test_equal_labels_and_strange_folders_are_one_line(tool, runs, tmp_path, capsys) -> None:
    for entries, message in (
        ([runs / 'a', runs / 'a'], "two networks are called 'a'"),
        ([runs / 'data'], 'has no latest.pth'),
    ):
        with pytest.raises(SystemExit) as ended:
            tool.main([*map(str, entries), '--out', str(tmp_path / 'r.html')])
        assert ended.value.code == 2 and message in capsys.readouterr().err
