"""The export tool: its output is correct, and the printed lines of code work."""

import importlib.util
import runpy
from types import ModuleType

import pytest
import timm
import torch

from toy_run import ROOT

TOOL = ROOT / 'tools' / 'model_converters' / 'export_backbone.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('export_backbone', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model('resnet18', num_classes=0).state_dict(), tmp_path / 'in.pth')
    return tmp_path / 'in.pth'


def run(tool: ModuleType, *arguments: object) -> None:
    tool.main([str(argument) for argument in arguments])


def test_it_ends_with_the_two_lines_to_paste(tool, checkpoint, tmp_path, capsys):
    out = tmp_path / 'new' / 'out.safetensors'
    run(tool, checkpoint, out, '--to', 'timm', '--model', 'resnet18')
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if ' - INFO - ' not in line]  # the log
    assert lines[0].startswith(f"read {checkpoint}: timm.create_model('resnet18'")
    assert '120 tensors, 100% match' in lines[1]
    assert 'largest difference 0 where the largest feature is' in lines[2]
    assert lines[3] == f'wrote {out}'
    names: dict = {}
    exec('\n'.join(lines[4:]), names)  # what a person does
    expected = torch.load(checkpoint, weights_only=True)
    assert all(torch.equal(v, expected[k]) for k, v in names['model'].state_dict().items())


def test_model_options_are_applied(tool, tmp_path, capsys):
    model = timm.create_model('resnet18', num_classes=0, in_chans=5)
    torch.save(model.state_dict(), tmp_path / 'in.pth')
    arguments = ('--to', 'timm', '--model', 'resnet18', '--model-options', 'in_chans=5')
    run(tool, tmp_path / 'in.pth', tmp_path / 'out.pth', *arguments)
    assert 'in_chans=5' in capsys.readouterr().out


def test_an_existing_file_is_overwritten_only_on_request(tool, checkpoint, tmp_path):
    arguments = (checkpoint, tmp_path / 'out.pth', '--to', 'torchvision', '--model', 'resnet18')
    (tmp_path / 'out.pth').write_text('precious')
    with pytest.raises(FileExistsError, match=r'out.pth exists.*--force'):
        run(tool, *arguments)
    assert (tmp_path / 'out.pth').read_text() == 'precious'
    run(tool, *arguments, '--force')
    assert 'conv1.weight' in torch.load(tmp_path / 'out.pth', weights_only=True)


def test_a_backbone_that_does_not_fit_ends_with_exit_code_2(
    checkpoint, tmp_path, monkeypatch, capsys
):
    arguments = [checkpoint, tmp_path / 'out.pkl', '--to', 'detectron2', '--model', 'resnet18']
    monkeypatch.setattr('sys.argv', [str(TOOL), *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert exit_.value.code == 2
    assert 'targets that fit: timm, torchvision' in capsys.readouterr().err
    assert not (tmp_path / 'out.pkl').exists()
