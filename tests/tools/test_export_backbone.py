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


class Hub:
    """Stands for the API of huggingface_hub; nothing leaves this machine."""

    calls: list

    def create_repo(self, repo, **options):
        self.calls.append(('create', repo, options))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        files = {path.name: path.read_bytes() for path in folder_path.iterdir()}
        self.calls.append(('upload', repo_id, files))


@pytest.mark.parametrize('classes', [0, 7])
def test_a_push_uploads_the_folder_with_a_model_card(tool, tmp_path, monkeypatch, capsys, classes):
    model = timm.create_model('test_vit', num_classes=classes)
    torch.save(model.state_dict(), tmp_path / 'in.pth')
    monkeypatch.setattr(Hub, 'calls', [], raising=False)
    monkeypatch.setattr('huggingface_hub.HfApi', Hub)
    arguments = (
        tmp_path / 'in.pth',
        tmp_path / 'out',
        '--to',
        'huggingface',
        '--model',
        'test_vit',
    )
    run(tool, *arguments, '--push', 'me/my-vit')
    create, upload = Hub.calls
    assert create == ('create', 'me/my-vit', dict(private=True, exist_ok=True))
    files = upload[2]
    assert {*files} == {'README.md', 'config.json', 'model.safetensors'}
    card = files['README.md'].decode()
    assert card.startswith('---\nlibrary_name: timm\n')
    assert "timm.create_model('hf-hub:me/my-vit', pretrained=True" in card
    assert ('num_classes=0' in card) == (classes == 0)
    assert ('7 classes' in card) == (classes == 7)
    assert str(tmp_path) not in card
    said = capsys.readouterr().out
    assert said.endswith('pushed to https://huggingface.co/me/my-vit\n')


def test_a_push_that_fails_or_cannot_be_is_named(tool, checkpoint, tmp_path, monkeypatch):
    class Refuses(Hub):
        def create_repo(self, repo, **_):
            raise OSError('401 Client Error\nInvalid token')

    monkeypatch.setattr('huggingface_hub.HfApi', Refuses)
    common = (checkpoint, tmp_path / 'out', '--model', 'resnet18', '--push')
    for repo in ('resnet', 'me/a/b', '/a', 'me/', 'me/a b'):
        with pytest.raises(ValueError, match='must be USER/NAME'):
            run(tool, *common, repo, '--to', 'huggingface')
    assert not (tmp_path / 'out').exists()
    with pytest.raises(ConnectionError, match=r'401 Client Error Invalid token.*hf auth login'):
        run(tool, *common, 'me/a', '--to', 'huggingface')
    assert (tmp_path / 'out' / 'model.safetensors').is_file()
    other = (checkpoint, tmp_path / 'out.pth', '--model', 'resnet18', '--push')
    with pytest.raises(ValueError, match='--push me/a needs --to huggingface, not timm'):
        run(tool, *other, 'me/a', '--to', 'timm')
