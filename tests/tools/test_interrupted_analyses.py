"""An interrupted command resumes, and its tables equal those of an uninterrupted one."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from a2mim.analysis.results import PartStore
from small_models import classifier, pretraining, save_checkpoint
from toy_run import ROOT

FEW = '--num-images 6 --batch-size 2'
VIT = 'random:test_vit random:test_resnet'
FOURIER, ROBUSTNESS, INTERACTIONS = (
    f'analysis_tools/{name}.py'
    for name in (
        'fourier_analysis/fourier_analysis',
        'robustness/robustness',
        'representation_bottleneck/interactions',
    )
)
pytestmark = pytest.mark.integration
COMMANDS = [
    (FOURIER, f'{VIT} --exp-name fourier {FEW}'),
    (FOURIER, f'{VIT} --exp-name variance {FEW}'),
    (FOURIER, f'PRETRAINED --exp-name reconstruction {FEW}'),
    (FOURIER, f'PRETRAINED --exp-name filter --cutoffs 0.3 0.7 {FEW}'),
    (FOURIER, f'CLASSIFIER --exp-name noise --bands 3 {FEW}'),
    (ROBUSTNESS, f'{VIT} --study shuffle --grids 1 2 4 --measure similarity {FEW}'),
    (
        INTERACTIONS,
        f'{VIT} --grid 4 --pairs 2 --contexts 2 --ratios 0.5 --num-images 3 --batch-size 32',
    ),
    ('tools/visualizations/vis_attention.py', f'random:test_vit deep=random:test_vit2 {FEW}'),
    ('tools/visualizations/vis_erf.py', f'{VIT} {FEW}'),
    ('tools/visualizations/vis_embedding.py', f'{VIT} --perplexity 3 {FEW}'),
    ('tools/visualizations/vis_reconstruction.py', f'PRETRAINED --seeds 0 1 {FEW}'),
]


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('checkpoints')
    save_checkpoint(pretraining(), folder / 'pretraining.pth')
    save_checkpoint(classifier(14), folder / 'classifier.pth')
    return dict(PRETRAINED=folder / 'pretraining.pth', CLASSIFIER=folder / 'classifier.pth')


@pytest.fixture
def run(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str, Path, int], int]:
    """Run a tool until it has measured ``limit`` parts; return how many it measured."""
    compute = PartStore.compute

    def call(tool: str, line: str, out: Path, limit: int) -> int:
        measured = []

        def limited(store: PartStore, name: str, measure: Callable) -> dict:
            def one() -> dict:
                if len(measured) == limit:
                    raise KeyboardInterrupt
                measured.append(name)
                return measure()

            return compute(store, name, one)

        for name, file in files.items():
            line = line.replace(name, str(file))
        monkeypatch.setattr(PartStore, 'compute', limited)
        argv = [tool, *line.split(), '--device', 'cpu', '--out', str(out)]
        monkeypatch.setattr('sys.argv', argv)
        runpy.run_path(str(ROOT / tool), run_name='__main__')
        return len(measured)

    return call


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob('*.csv')}


@pytest.mark.parametrize(('tool', 'line'), COMMANDS)
def test_an_interrupted_command_resumes(
    run: Callable, tmp_path: Path, tool: str, line: str
) -> None:
    whole = run(tool, line, tmp_path / 'whole', 1000)
    assert whole > 2
    with pytest.raises(SystemExit, match='130'):
        run(tool, line, tmp_path / 'twice', 2)
    assert not list((tmp_path / 'twice').rglob('result.json'))
    assert run(tool, line, tmp_path / 'twice', 1000) == whole - 2
    assert tables(tmp_path / 'twice') == tables(tmp_path / 'whole') != {}
