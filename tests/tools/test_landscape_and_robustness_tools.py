"""The commands for loss landscapes and robustness, on the smallest networks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import a2mim
from a2mim.registry import MODELS
from toy_run import ROOT, load_tool, toy_config, write_images
from two_processes import finish, free_port

pytestmark = pytest.mark.integration


def figures(folder: Path) -> list[str]:
    """Figures that a finished folder lists; all exist."""
    index = json.loads((folder / 'result.json').read_text(encoding='utf-8'))
    names = [figure['file'] for figure in index['figures']]
    assert all((folder / name).read_bytes().startswith(b'\x89PNG') for name in names)
    return names


@pytest.fixture
def run_files(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A config on six validation images, and two checkpoints of it."""
    write_images(tmp_path / 'data/val', 2)
    write_images(tmp_path / 'data/train', 1)
    cfg = toy_config(tmp_path / 'data')
    config = tmp_path / 'toy.py'
    cfg.dump(config)
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        files.append(tmp_path / f'seed{seed}.pth')
        state = MODELS.build(cfg.model).state_dict()
        torch.save(dict(state_dict=state, meta=dict(cfg=cfg.pretty_text)), files[-1])
    return config, files


def test_line_hits_the_losses_of_both_checkpoints(
    run_files: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    config, files = run_files
    tool = load_tool('visualizations/vis_loss_landscape')
    outs = iter(tmp_path / f'out{number}' for number in range(3))

    def losses(*options: object) -> np.ndarray:
        out = next(outs)
        tool.main([str(config), *map(str, options), '--device=cpu', f'--out={out}'])
        assert figures(out) == ['loss_landscape.png']
        return np.load(out / 'surface.npz')['loss'][0]

    between = losses(files[0], '--x=0:1:3', '--model_file2', files[1])
    first, second = (losses(file, '--x=-1:0:2')[1] for file in files)
    np.testing.assert_allclose(between[[0, 2]], [first, second], rtol=1e-5)


def test_plane_of_three_networks_has_them_at_its_corners(
    run_files: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    config, files = run_files
    torch.manual_seed(2)
    third = MODELS.build(toy_config(tmp_path / 'data').model).state_dict()
    torch.save(dict(state_dict=third), tmp_path / 'seed2.pth')
    tool = load_tool('visualizations/vis_loss_landscape')
    everything = [str(config), str(files[0]), str(files[1]), str(tmp_path / 'seed2.pth')]
    tool.main([*everything, '--x=0:1:2', '--device=cpu', f'--out={tmp_path / "alone"}'])
    first, second, other = np.load(tmp_path / 'alone/surface.npz')['loss'][:, 0]
    ends = ['--model-file2', everything[2], '--model-file3', everything[3]]
    line = [*everything[:2], *ends, '--x=0:1:2', '--y=0:1:2', f'--out={tmp_path / "plane"}']
    tool.main([*line, '--device=cpu'])
    plane = np.load(tmp_path / 'plane/surface.npz')['loss'][0]
    corners = [plane[0, 0], plane[1, 0], plane[0, 1]]
    np.testing.assert_allclose(corners, [first, second, other], rtol=1e-5)


@pytest.mark.parametrize('grid', [['--x=-1:1:3'], ['--x=-1:1:3', '--y=0:1:2']])
def test_several_networks_go_into_one_figure(
    run_files: tuple[Path, list[Path]], tmp_path: Path, grid: list[str]
) -> None:
    config, files = run_files
    tool = load_tool('visualizations/vis_loss_landscape')
    common = [*grid, '--device=cpu']
    networks = [f'a={files[0]}', str(files[1]), f'random:{files[0]}']
    tool.main([str(config), *networks, *common, f'--out={tmp_path / "all"}'])
    assert figures(tmp_path / 'all') == ['loss_landscape.png']
    together = np.load(tmp_path / 'all/surface.npz')
    assert together['networks'].tolist() == ['a', 'seed1', 'random seed0']
    tool.main([str(config), networks[1], *common, f'--out={tmp_path / "one"}'])
    alone = np.load(tmp_path / 'one/surface.npz')['loss'][0]
    np.testing.assert_array_equal(together['loss'][1], alone)
    # The first file holds the random weights of seed 0.
    np.testing.assert_array_equal(together['loss'][2], together['loss'][0])
    assert not np.array_equal(together['loss'][0], alone)


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['seed0=FILE1'], "two networks have one name among ['seed0', 'seed0']"),
        (['none.pth'], 'checkpoint none.pth does not exist'),
        (['FILE1', '--plot-mode=trajectory', '--model-folder=.'], 'takes one checkpoint'),
        (['--plot-mode=trajectory'], 'needs --model-folder, a run'),
        (['--plot-mode=surface+trajectory', '--model-folder=.'], 'needs --y'),
        (['--model-file3=x.pth'], '--model-file3 is the end of a second direction'),
        (['--vlevel=20'], '--vlevel 20.0 must be above 0'),
    ],
)
def test_incompatible_options_end_with_one_line(
    run_files: tuple[Path, list[Path]],
    extra: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
) -> None:
    config, files = run_files
    tool = load_tool('visualizations/vis_loss_landscape')
    line = [text.replace('FILE1', str(files[1])) for text in extra]
    with pytest.raises(SystemExit) as end:
        tool.main([str(config), str(files[0]), *line, '--x=0:1:2', '--device=cpu'])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_trajectory_ends_at_the_checkpoint_and_lies_on_the_surface(
    run_files: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    config, files = run_files
    first, last = (torch.load(file, weights_only=True) for file in files)
    run = tmp_path / 'run'
    run.mkdir()
    for epoch, share in enumerate((0.0, 0.6, 1.0), 1):
        state = {
            name: torch.lerp(tensor, last['state_dict'][name], share)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in first['state_dict'].items()
        }
        torch.save({**last, 'state_dict': state}, run / f'epoch_{epoch}.pth')
    tool = load_tool('visualizations/vis_loss_landscape')
    options = ['--plot-mode', 'surface+trajectory', '--model-folder', run, '--device=cpu']
    line = [config, files[1], *options, '--x=-1:1:3', '--y=-1:1:2', '--out', tmp_path / 'out']
    tool.main(list(map(str, line)))
    assert figures(tmp_path / 'out') == ['loss_landscape.png']
    found = np.load(tmp_path / 'out/surface.npz')
    assert found['loss'].shape == (1, 3, 2)
    # A straight path: along the first direction only, at 1, 0.4 and 0 of its length.
    steps = np.abs(found['points'][:, 0])
    np.testing.assert_allclose(steps / steps[0], [1, 0.4, 0], atol=1e-6)
    np.testing.assert_allclose(found['explained'], [1, 0], atol=1e-6)


@pytest.mark.integration
def test_pretraining_is_measured_with_fixed_masks(tmp_path: Path) -> None:
    config = ROOT / 'configs/quickstart/a2mim_resnet18_1xb64-cos-15e_photos-64px.py'
    torch.manual_seed(0)
    state = a2mim.load_model(config, pretrained=False).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'random.pth')
    tool = load_tool('visualizations/vis_loss_landscape')
    losses = []
    for out in ('one', 'two'):
        options = ['--x=-1:1:3', '--num-images=8', '--device=cpu', f'--out={tmp_path / out}']
        tool.main([str(config), str(tmp_path / 'random.pth'), *options])
        losses.append(np.load(tmp_path / out / 'surface.npz')['loss'][0])
    np.testing.assert_array_equal(*losses)
    assert (losses[0] > 0).all() and len(set(losses[0].tolist())) == 3


def test_bad_grid_is_one_line(
    run_files: tuple[Path, list[Path]], capsys: pytest.CaptureFixture
) -> None:
    config, files = run_files
    tool = load_tool('visualizations/vis_loss_landscape')
    with pytest.raises(SystemExit) as end:
        tool.main([str(config), str(files[0]), '--x=0:1'])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: grid '0:1' must be FIRST:LAST:NUMBER, such as -1:1:51\n"
    )


@pytest.mark.integration
def test_two_processes_share_the_points(run_files: tuple[Path, list[Path]], tmp_path: Path) -> None:
    config, files = run_files
    options = ['--x=-1:1:3', '--y=-1:1:2', '--device=cpu']
    tool = load_tool('visualizations/vis_loss_landscape')
    tool.main([str(config), str(files[0]), *options, f'--out={tmp_path / "one"}'])
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key}
    call = ['bash', str(ROOT / 'tools/visualizations/dist_vis_loss.sh')]
    process = subprocess.Popen(
        [*call, str(config), '2', str(files[0]), *options, f'--out={tmp_path / "two"}'],
        env={**clean, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'PORT': free_port()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    finish(process)
    one, two = (np.load(tmp_path / name / 'surface.npz')['loss'] for name in ('one', 'two'))
    np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize('study', ['occlusion', 'shuffle', 'corruptions'])
def test_robustness_writes_a_row_for_each_level(study: str, tmp_path: Path) -> None:
    tool = load_tool('robustness/robustness', 'analysis_tools')
    few = ['--ratios', '0', '0.5', '--grid', '4', '--grids', '1', '4', '--corruptions', 'jpeg']
    call = ['random:test_vit', '--study', study, '--measure', 'similarity', '--num-images', '2']
    tool.main([*call, *few, '--device', 'cpu', '--out', str(tmp_path)])
    rows = (tmp_path / f'{study}.csv').read_text().splitlines()
    assert len(rows) == 1 + dict(occlusion=6, shuffle=2, corruptions=6)[study]
    assert figures(tmp_path) == [f'{study}.png']
