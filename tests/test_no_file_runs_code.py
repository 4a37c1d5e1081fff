"""Every program and option that reads a checkpoint refuses one that would run code.

The payload makes a folder. Each test passes it to one entry point and looks for that folder; with
``--trust-checkpoint`` the same file is read, after a warning, and the folder is there.
"""

import io
import os
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.weights.safe_load import load_file, trust_checkpoints
from toy_run import load_tool, toy_config, write_images

TRACE = 'trace'


class Payload:
    """Makes the folder ``trace`` when an unrestricted unpickler meets it."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (TRACE,)


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch) -> str:
    """A folder with images, a config, and valid weights that contain a payload."""
    monkeypatch.chdir(tmp_path)
    write_images(Path('train'), 4)
    write_images(Path('val'), 2)
    config = f'{tmp_path.name}.py'  # mmengine keeps loggers by name
    toy_config(Path(), train_cfg__max_epochs=1).dump(config)
    backbone = TimmBackbone(model_name='test_convnext', num_classes=3)
    weights = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    torch.save(dict(state_dict=weights, meta=Payload()), 'evil.pth')
    ema = {'module.backbone.model.stem.0.weight': Payload()}
    torch.save(dict(state_dict=weights, ema_state_dict=ema), 'ema.pth')
    published = {'backbone.layer1.0.conv1.weight': torch.zeros(1)}
    torch.save(dict(state_dict=published, meta=Payload()), 'released.pth')
    yield config
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def options(text: str) -> list[str]:
    return ['--cfg-options', text]


def resume_file() -> list[str]:
    Path('elsewhere').mkdir()  # away from the config, which would be taken for that of its run
    Path('evil.pth').rename('elsewhere/epoch_1.pth')
    return ['--resume', 'elsewhere/epoch_1.pth']


def resume_auto() -> list[str]:
    Path('work').mkdir()
    Path('evil.pth').rename('work/epoch_1.pth')
    Path('work/latest.pth').symlink_to('epoch_1.pth')
    return ['--work-dir', 'work', '--resume', 'auto']


TRAIN, TEST = 'train', 'test'
# Name: tool, and arguments after the config.
WAYS = {
    'train --load-checkpoint': (TRAIN, ['--load-checkpoint', 'evil.pth']),
    'train --load-checkpoint, EMA': (TRAIN, ['--load-checkpoint', 'ema.pth']),
    'train --pretrained': (TRAIN, ['--pretrained', 'evil.pth']),
    'train --pretrained, EMA': (TRAIN, ['--pretrained', 'ema.pth']),
    'load_from': (TRAIN, options('load_from=evil.pth')),
    'init_cfg': (
        TRAIN,
        [
            '--cfg-options',
            'model.backbone.init_cfg.type=Pretrained',
            'model.backbone.init_cfg.checkpoint=evil.pth',
        ],
    ),
    'test': (TEST, ['evil.pth']),
    'test, EMA': (TEST, ['ema.pth']),
    'evaluate_features': (
        'analysis_tools/evaluate_features',
        ['evil.pth', '--knn', '--neighbours', '3'],
    ),
}
RESUMED = {'resume FILE': resume_file, 'resume auto': resume_auto}
CONVERTERS = {
    'extract': ('extract_backbone_weights', ['evil.pth', 'out.pth']),
    'import': ('openmixup_to_a2mim', ['released.pth', 'out.pth']),
    'export': (
        'export_backbone',
        ['evil.pth', 'out.pth', '--to', 'timm', '--model', 'test_convnext'],
    ),
    'publish': ('publish_model', ['evil.pth', 'out.pth']),
}


def call(tool: str, arguments: list[str]) -> None:
    """Run a program the way its ``__main__`` does."""
    module = load_tool(tool)
    if tool.startswith('analysis_tools'):
        try:
            module.main(module.parse_args(arguments))
        finally:
            DefaultScope._instance_dict.clear()
    else:
        module.main(arguments)


def refused(capsys, tool: str, arguments: list[str]) -> str:
    """The error message of a program that refuses the payload."""
    with pytest.raises((SystemExit, ValueError)) as error:
        call(tool, arguments)
    text = str(error.value) + capsys.readouterr().err
    assert not Path(TRACE).exists()
    return text


@pytest.mark.parametrize('tool, arguments', WAYS.values(), ids=WAYS)
def test_a_payload_is_refused(run, capsys, tool, arguments):
    text = refused(capsys, tool, [run, *arguments])
    assert 'mkdir while it is read, which is no data: refused' in text
    assert '--trust-checkpoint' in text


@pytest.mark.parametrize('tool, arguments', WAYS.values(), ids=WAYS)
def test_a_trusted_payload_runs_after_a_warning(run, capsys, tool, arguments):
    call(tool, [run, *arguments, '--trust-checkpoint'])
    assert Path(TRACE).is_dir()
    assert 'it may run any code, with all rights of this user' in capsys.readouterr().err


@pytest.mark.parametrize('arguments', RESUMED.values(), ids=RESUMED)
def test_a_payload_is_refused_where_a_run_resumes(run, capsys, arguments):
    assert 'mkdir while it is read' in refused(capsys, TRAIN, [run, *arguments()])


@pytest.mark.parametrize('arguments', RESUMED.values(), ids=RESUMED)
def test_a_trusted_file_is_read_where_a_run_resumes(run, capsys, arguments):
    with pytest.raises(SystemExit):  # its code fails where it runs a second time
        call(TRAIN, [run, *arguments(), '--trust-checkpoint'])
    assert Path(TRACE).is_dir()
    text = capsys.readouterr().err
    assert text.index('it may run any code') < text.index('error: ')


@pytest.mark.parametrize('tool, arguments', CONVERTERS.values(), ids=CONVERTERS)
def test_a_converter_refuses_a_payload_and_writes_nothing(capsys, tool, arguments):
    tool = f'model_converters/{tool}'
    assert '--trust-checkpoint' in refused(capsys, tool, arguments)
    assert not [*Path().glob('out*')]
    call(tool, [*arguments, '--trust-checkpoint'])
    assert Path(TRACE).is_dir() and [*Path().glob('out*')]
    assert 'it may run any code' in capsys.readouterr().err


def test_timms_own_options_run_nothing(run, capsys):
    text = refused(capsys, TRAIN, [run, *options('model.backbone.checkpoint_path=evil.pth')])
    assert "init_cfg=dict(type='Pretrained'" in text
    overlay = dict(pretrained=True, pretrained_cfg_overlay=dict(file='evil.pth'))
    with pytest.raises(RuntimeError, match='Unsupported globals'):
        TimmBackbone(model_name='test_convnext', num_classes=3, **overlay)
    assert not Path(TRACE).exists()


def test_trust_does_not_extend_to_a_remote_file(run, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}/evil.pth'
    text = refused(capsys, TRAIN, [run, *options(f'load_from={address}'), '--trust-checkpoint'])
    assert 'GLOBAL' in text and 'mkdir' in text
    server.shutdown()
    server.server_close()
    assert not Path(TRACE).exists()


def write_zip(path: Path) -> None:
    torch.save(Payload(), path)


def write_legacy(path: Path) -> None:
    torch.save(Payload(), path, _use_new_zipfile_serialization=False)


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


def write_tar(path: Path) -> None:
    """The format of torch 0.1: a tar of pickles."""
    with tarfile.open(path, 'w') as archive:
        for name in ('storages', 'tensors', 'pickle', 'sys_info'):
            data = pickle.dumps(Payload(), protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


WRITERS = {'zip': write_zip, 'legacy': write_legacy, 'pickle': write_pickle, 'tar': write_tar}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('write', WRITERS.values(), ids=WRITERS)
def test_a_payload_is_refused_in_every_format_and_name(write, suffix):
    path = Path('file').with_suffix(suffix)
    write(path)
    with pytest.raises(ValueError, match=path.name):
        load_file(path)
    assert not Path(TRACE).exists()


def test_a_tar_is_named_and_its_payload_runs_only_after_the_warning(capsys):
    write_tar(Path('old.pth'))
    with pytest.raises(ValueError, match=r'is a tar archive.*--trust-checkpoint'):
        load_file('old.pth')
    with pytest.raises(ValueError, match='is truncated'), trust_checkpoints(True):
        load_file('old.pth')
    assert Path(TRACE).is_dir()
    assert 'old.pth holds more than data' in capsys.readouterr().err


def test_a_pickle_named_safetensors_is_not_read_even_with_trust():
    write_zip(Path('file.safetensors'))
    with pytest.raises(ValueError, match='is a torch file'), trust_checkpoints(True):
        load_file('file.safetensors')
    assert not Path(TRACE).exists()


def test_trust_ends_with_its_block_and_does_not_warn_about_plain_data(capsys):
    torch.save(dict(a=torch.zeros(1)), 'plain.pth')
    with trust_checkpoints(True):
        load_file('plain.pth')
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match='refused'):
        load_file('evil.pth')
